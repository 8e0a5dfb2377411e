"""One way to enumerate a grid: methods x trainable fractions x variants of their settings; seeds come with the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smt_bench import methods

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.questions.planner import Planner


@dataclass(frozen=True)
class Cell:
    """One run but for its seed: all that an experiment decides, the rest is the recipe's.

    Attributes:
        method: its name.
        fraction: requested trainable fraction; None for methods without one.
        changes: method settings that differ from the recipe's.
        lr: peak learning rate; None: the recipe's.
        probes: what to record on the way.
        recipe: fields of the recipe with other values, e.g. "train_on_inputs".
        tuning: the hash of what found rate and settings; "": the recipe's.
        only: the tasks whose training records are used; empty: all.
    """

    method: str
    fraction: float | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    lr: float | None = None
    probes: tuple[str, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    tuning: str = ""
    only: tuple[str, ...] = ()


def grid(
    planner: Planner,
    names: Sequence[str],
    fractions: Sequence[float] | None = None,
    variants: Sequence[Mapping[str, Any]] = ({},),
) -> list[Cell]:
    """The cells, methods outermost, variants innermost; under `--methods all` without those that the model cannot give.

    Args:
        planner: for the request.
        names: methods; those without a trainable fraction get one cell per variant.
        fractions: None: those asked for, or the recipe's.
        variants: settings that differ from the recipe's.

    Raises:
        ValueError: a setting was asked for that the variants differ in.
    """
    varied = {name for changes in variants for name in changes if any(changes[name] != v.get(name) for v in variants)}
    for method, what, _ in planner.request.settings:
        if what in varied and method in names and not planner.shared:
            raise ValueError(
                f"--set {method}.{what}: {planner.request.experiment} compares several of it: leave it out"
            )
    if planner.request.targets and "targets" in varied and not planner.shared:
        raise ValueError(f"--targets: {planner.request.experiment} compares several of them: leave it out")
    fractions = planner.fractions() if fractions is None else fractions
    return [
        Cell(name, fraction, changes)
        for name in names
        for fraction in (fractions if methods.find(name).takes_fraction else [None])
        for changes in variants
        if planner.takes(name, fraction, **changes)
    ]


def middle(planner: Planner) -> list[float]:
    """The fractions asked for, else the middle one of the recipe."""
    found = planner.fractions()
    return found if planner.request.fractions_pct else [found[len(found) // 2]]

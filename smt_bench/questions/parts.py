"""What one command does: an experiment, or several that share their runs, on one data family or on two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smt_bench.machine.fits import Machine
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.methods.base import Capacity
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.index import folder
from smt_bench.records.runs import Question
from smt_bench.records.store import Store

DEFAULT = ("commonsense",)  # the families of an experiment that names none


@dataclass
class Leg:
    """One experiment on one data family.

    Attributes:
        module: the experiment.
        planner: with the data opened, where the experiment looks at any.
        planned: its runs.
        place: where its tables go.
    """

    module: Any
    planner: Planner
    planned: list[tuple[Question, Capacity | None]]
    place: Path


def needs_data(module: Any) -> bool:
    """Whether an experiment trains, or measures (`TRAINED`) on trained weights and data."""
    return not hasattr(module, "measure") or getattr(module, "TRAINED", False)


def plan_parts(
    modules: Sequence[Any],
    request: Request,
    here: Machine,
    store: Store,
    writes: bool,
    say: Callable[[str], None],
    spread: Spread = ALONE,
) -> list[Leg]:
    """Plans all parts before any run; data are read and weights located once per family.

    Where there are several parts, one that cannot be done here is named and left out.

    Args:
        modules: the experiments.
        request: what was asked for; named tasks decide the family.
        here: this machine.
        store: where the results go.
        writes: whether the results folder has to be writable.
        say: one-line messages.
        spread: of each run over the machine.

    Raises:
        ValueError: what was asked for cannot work; with several parts, if none that needs data can be done.
    """
    planners: dict[str, Planner] = {}
    made: list[Leg] = []
    refused: list[tuple[str, ValueError]] = []
    units = [
        (module, family)
        for module in modules
        for family in ((request.family,) if request.tasks else getattr(module, "FAMILIES", DEFAULT))
    ]
    for module, family in units:
        try:
            if family not in planners:
                planners[family] = Planner(replace(request, default_family=family), here, say, spread)
            made.append(_plan(module, planners[family], store, writes))
        except ValueError as error:
            if len(units) == 1:
                raise
            refused.append((f"{module.NAME} ({family})", error))
    if refused and not any(needs_data(part.module) for part in made):
        raise refused[0][1]
    for name, why in refused:
        say(f"note: {name} left out: {str(why).splitlines()[0]}")
    return made


def _plan(module: Any, planner: Planner, store: Store, writes: bool) -> Leg:
    if names := module.method_names(planner):
        planner.check_machine(names)
    module.check(planner)
    place = folder(store, module.NAME, planner.entry.name, planner.request.family)
    if writes:
        store.check_writable(place)
    if not needs_data(module):
        planner.refuse_data_options()
    elif not planner.opened:
        planner.open()
    return Leg(module, planner, list(module.runs(planner)), place)


def union(parts: Sequence[Leg]) -> list[tuple[Question, Capacity | None]]:
    """All runs, each once."""
    return list({run.key: (run, capacity) for part in parts for run, capacity in part.planned}.values())

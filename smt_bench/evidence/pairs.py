"""Comparisons of two cells: the difference of their means, with one interval over new seeds and new examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from smt_bench.evidence.cells import Cells, Group, common_tasks, groups
from smt_bench.evidence.decisions import AHEAD, BEHIND, OPEN, Correction, Decision, benjamini_hochberg, decide, margins
from smt_bench.evidence.group import keys_of
from smt_bench.evidence.interval import Estimate, contrast
from smt_bench.evidence.sides import Side
from smt_bench.evidence.words import title
from smt_bench.records.store import Record

PREFIXES = ("", "nll_")  # accuracy, held-out NLL
_EVIDENCE = ("difference", "low", "high", "p", "p_within", "smallest", "verdict")


@dataclass(frozen=True)
class Comparison:
    """The first cell minus the second, on the same examples.

    Attributes:
        a: the first.
        b: the second.
        accuracy: points, positive favours the first; None where there is nothing to compare.
        nll: nats per held-out response token, negative favours the first; None likewise.
        n_seeds: the fewest runs of a side that trains.
        n_examples: test examples.
        n_sources: what they go back to; as many as examples where that is not known.
        n_heldout: held-out examples with a response.
        n_heldout_sources: likewise.
        more: cells that came in besides, where the difference is one of differences.
    """

    a: Group
    b: Group
    accuracy: Estimate | None
    nll: Estimate | None
    n_seeds: int
    n_examples: int | None
    n_sources: int | None
    n_heldout: int | None
    n_heldout_sources: int | None
    more: tuple[Group, ...] = ()

    def favouring(self, prefix: str) -> Estimate | None:
        """Of accuracy ("") or held-out NLL ("nll_"), turned so that positive favours the first."""
        return self.accuracy if not prefix else None if self.nll is None else self.nll.turned()

    def sources(self, prefix: str) -> int | None:
        """Behind that estimate."""
        return self.n_heldout_sources if prefix else self.n_sources

    def row(self) -> dict[str, Any]:
        """Its plain numbers."""
        made: dict[str, Any] = {
            "method": self.a.method, "fraction_pct": self.a.fraction_pct,
            "versus": self.b.method, "versus_fraction_pct": self.b.fraction_pct,
        }  # fmt: skip
        for prefix, found in zip(PREFIXES, (self.accuracy, self.nll)):
            made |= {f"{prefix}{name}": None for name in _EVIDENCE}
            if found is not None:
                made[f"{prefix}difference"] = found.value
                made[f"{prefix}low"], made[f"{prefix}high"] = found.interval() or (None, None)
        names = ("n_seeds", "n_examples", "n_sources", "n_heldout", "n_heldout_sources")
        return made | {name: getattr(self, name) for name in names} | {"keys": keys_of((self.a, self.b, *self.more))}


def compare(a: Group, b: Group, tasks: Sequence[str], more: Sequence[tuple[float, Group]] = ()) -> Comparison:
    """Compares two cells; what they do not all have is None.

    Args:
        a: the first.
        b: taken from it.
        tasks: for accuracy.
        more: further cells that are added with these factors, e.g. for a gain against another gain.

    Raises:
        ValueError: they answered other examples.
    """
    terms = [(1.0, a), (-1.0, b), *more]
    cells, others = [g for _, g in terms], tuple(g for _, g in more)
    counts = [len(g.done) for g in cells if g.trains]
    if not all(g.done for g in cells):
        return Comparison(a, b, None, None, 0, None, None, None, None, others)
    scores = [(c, g.answers.side(tasks)) for c, g in terms]
    losses = [(c, g.answers.nll_side) for c, g in terms]
    found = _difference(scores), _difference(losses)
    return Comparison(a, b, *found, min(counts, default=1), *_size(scores), *_size(losses), others)


def _known(terms: Sequence[tuple[float, Side | None]]) -> list[tuple[float, Side]]:
    """All of them, or none where one is missing."""
    known = [(c, side) for c, side in terms if side is not None]
    return known if len(known) == len(terms) else []


def _difference(terms: Sequence[tuple[float, Side | None]]) -> Estimate | None:
    known = _known(terms)
    return contrast(known) if known else None


def _size(terms: Sequence[tuple[float, Side | None]]) -> tuple[int | None, int | None]:
    known = _known(terms)
    return (known[0][1].items.cluster_N.size, known[0][1].items.stratum_G.size) if known else (None, None)


def decided(
    found: Sequence[Comparison], prefix: str, correction: Correction, beyond: Sequence[bool] = ()
) -> list[Decision]:
    """Decisions on a family of comparisons, on accuracy ("") or on held-out NLL ("nll_")."""
    margin = margins().nats if prefix else margins().points
    estimates = [c.favouring(prefix) for c in found]
    return decide(estimates, margin, correction, beyond, [c.sources(prefix) for c in found])


def verdicts(records: Iterable[Record] | Cells, reference: str) -> pd.DataFrame:
    """Compares the reference with every other method at the same fraction, and all with the methods without a fraction.

    Exploratory: nobody declared these comparisons, so that they are corrected together by Benjamini and Hochberg.

    Args:
        records: of one experiment on one model.
        reference: name of the method in question.

    Returns:
        Columns `method`, `fraction_pct`, `versus`, `versus_fraction_pct`; of accuracy (points) `difference`, `low`, `high` (95 %
        over seeds and examples), `p` (no difference) and `p_within` (a difference of the margin or more), corrected, `smallest`
        (the smallest difference found with 80 % power), `verdict`; the same of held-out NLL (nats per token, lower is better)
        with "nll_" before; `n_seeds`, `n_examples`, `n_sources`, `n_heldout`, `n_heldout_sources`.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    tasks = common_tasks(found)
    whole = [g for g in found if g.fraction is None and g.trains]
    tunable = [g for g in found if g.fraction is not None]
    mine = [g for g in tunable if g.method == reference]
    pairs = [(a, b) for a in mine for b in tunable if b.fraction == a.fraction and b.method != reference]
    pairs += [(a, b) for b in whole for a in sorted(tunable, key=lambda g: g.method != reference)]
    made = [compare(a, b, tasks) for a, b in pairs]
    rows = [comparison.row() for comparison in made]
    for prefix in PREFIXES:
        for row, comparison, decision in zip(rows, made, decided(made, prefix, benjamini_hochberg)):
            row |= told(prefix, decision)
            row[f"{prefix}verdict"] = _text(comparison, prefix, decision)
    return pd.DataFrame(rows, columns=list(compare(found[0], found[0], tasks).row()))


def told(prefix: str, decision: Decision) -> dict[str, Any]:
    """A decision's numbers, as columns of a row."""
    return {f"{prefix}{name}": getattr(decision, name) for name in ("p", "p_within", "smallest")}


def _text(c: Comparison, prefix: str, decision: Decision) -> str:
    if c.favouring(prefix) is None:
        lacking = [f"{g.label} {g.status}" for g in (c.a, c.b) if not g.done]
        return f"no result: {' and '.join(lacking)}" if lacking and not prefix else ""
    if decision.zone in (AHEAD, BEHIND):
        return f"{title((c.a if decision.zone == AHEAD else c.b).method)} ahead"
    return f"{OPEN} ({decision.why})" if decision.why else decision.zone

"""The runs of a composition by method and kind: either half alone, both at once, the sum; and each half on its own tasks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench.data.tasks import TASKS
from smt_bench.evidence.cells import Group, common_tasks, groups
from smt_bench.evidence.interval import Estimate, contrast
from smt_bench.evidence.sides import Side
from smt_bench.evidence.words import rank
from smt_bench.records import heldout
from smt_bench.records.store import Record

A, B, SUM, BOTH, OWN = "A alone", "B alone", "A + B", "both at once", "each on its own"
Terms = Sequence[tuple[float, str, str]]  # coefficient, method, kind of run


def halves(tasks: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tasks in the order of their family, cut in two; the first half is the larger one.

    Raises:
        ValueError: there are not two.
    """
    known = [task for task in TASKS if task in tasks]
    if len(known) < 2:
        raise ValueError(f"composition: {len(known)} task cannot be cut in two: name two or more with --tasks")
    middle = (len(known) + 1) // 2
    return tuple(known[:middle]), tuple(known[middle:])


def kind(record: Record) -> str:
    """Which of the four a record is; its half's first task says which half."""
    run = record["run"]
    if run.get("parts"):
        return SUM
    only = run["data"].get("only")
    return BOTH if not only else A if only == "+".join(halves(list(run["evaluation"]["tasks"]))[0]) else B


def _like(record: Record, whole: Mapping[str, Any]) -> Record:
    """The record as a table may compare it: what the rows are about is in its name, not in its data."""
    run = {name: value for name, value in record["run"].items() if name != "parts"}
    method = {**run["method"], "name": f"{run['method']['name']}, {kind(record)}"}
    return record | {"run": {**run, "data": dict(whole), "method": method}}


@dataclass(frozen=True)
class Found:
    """The cells of one table.

    Attributes:
        cells: by method, kind and fraction; `OWN` is made of both halves' answers on their own tasks.
        records: all.
        tasks: of both halves.
        parts: the halves.
    """

    cells: dict[tuple[str, str, float | None], Group]
    records: Sequence[Record]
    tasks: list[str]
    parts: tuple[tuple[str, ...], tuple[str, ...]]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Found:
        """Groups the records of one experiment on one model."""
        whole = dict(next((r for r in records if kind(r) in (BOTH, SUM)), records[0])["run"]["data"])
        parts = halves(list(records[0]["run"]["evaluation"]["tasks"]))
        # Data that vary with the seed have every seed's own hash: the whole set's stands for its halves.
        named = [_like(r, _whole(records, r, whole)) for r in records]
        made = groups([*named, *_own(records, parts, whole)])
        cells = {(method, what, g.fraction): g for g in made for method, _, what in [g.method.partition(", ")]}
        return cls(cells, records, common_tasks(made), parts)

    @property
    def places(self) -> list[tuple[str, float | None]]:
        """Methods and fractions, in display order."""
        found = {(method, fraction) for method, _, fraction in self.cells}
        return sorted(found, key=lambda place: (rank(place[0]), place[1] or 0.0))

    def group(self, method: str, what: str, fraction: float | None) -> Group | None:
        """A cell with numbers; of a method without a fraction at any."""
        found = self.cells.get((method, what, fraction)) or self.cells.get((method, what, None))
        return found if found is not None and found.done else None

    def runs(self, method: str, fraction: float | None) -> list[Record]:
        """All of a method's at a fraction, done or not."""
        kinds = (
            self.cells.get((method, what, f)) for what in (A, B, SUM, BOTH) for f in dict.fromkeys((fraction, None))
        )
        return [r for group in kinds if group is not None for r in (*group.done, *group.lost)]

    def side(self, method: str, what: str, fraction: float | None) -> Side | None:
        """Its accuracy over all tasks."""
        found = self.group(method, what, fraction)
        return None if found is None else found.answers.side(self.tasks)

    def better(self, method: str, fraction: float | None) -> str | None:
        """The half whose adapter has the lower held-out NLL on the examples to choose by."""
        losses = {}
        for what in (A, B):
            group = self.group(method, what, fraction)
            found = [heldout.nll(r, "tune") for r in group.done] if group is not None else []
            if found and None not in found:
                losses[what] = statistics.mean(v for v in found if v is not None)
        return min(losses, key=lambda what: losses[what]) if len(losses) == 2 else None

    def estimate(self, terms: Terms, fraction: float | None) -> Estimate | None:
        """Of a contrast of cells (points); None where one has no numbers."""
        sides = [(c, self.side(method, what, fraction)) for c, method, what in terms]
        known = [(c, side) for c, side in sides if side is not None]
        return contrast(known) if len(known) == len(sides) else None

    def gain(self, method: str, fraction: float | None, sign: float = 1.0) -> Terms:
        """The sum minus the better adapter alone; empty where it is not known which that is."""
        better = self.better(method, fraction)
        return [] if better is None else [(sign, method, SUM), (-sign, method, better)]


def _whole(records: Sequence[Record], record: Record, whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data of all tasks, of the record's own seed where they vary with it."""
    seed = record["run"]["seed"]
    same = (r["run"]["data"] for r in records if r["run"]["seed"] == seed and kind(r) in (BOTH, SUM))
    return next(same, whole) if whole.get("varies") else whole


def _own(records: Sequence[Record], parts: Sequence[Sequence[str]], whole: Mapping[str, Any]) -> list[Record]:
    """Of each seed one record that has either adapter's answers on its own half: what a sum without interference would say."""
    by_place: dict[tuple[str, float | None, int], dict[str, Record]] = {}
    for record in records:
        if record["status"] == "done" and kind(record) in (A, B):
            method = record["run"]["method"]
            by_place.setdefault((method["name"], method["fraction"], record["run"]["seed"]), {})[kind(record)] = record
    made = []
    for found in (f for f in by_place.values() if len(f) == 2):
        a, b = found[A], found[B]
        answers = {task: r["evaluation"][task] for r, tasks in ((a, parts[0]), (b, parts[1])) for task in tasks}
        like = _like(a, _whole(records, a, whole))
        run = like["run"]
        run = {**run, "method": {**run["method"], "name": run["method"]["name"].replace(A, OWN)}}
        held = {**a["heldout"], "nll": None}  # of all examples: no half of them is an adapter's own
        made.append({**like, "key": f"{a['key']} {b['key']}", "run": run, "evaluation": answers, "heldout": held})
    return made

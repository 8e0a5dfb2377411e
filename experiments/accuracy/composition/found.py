"""The runs of a composition by method and kind: either half alone, both at once, the sum; and each half on its own tasks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench.data.tasks import TASKS
from smt_bench.evidence.cells import Group, common_tasks, groups
from smt_bench.evidence.interval import Estimate
from smt_bench.evidence.pairs import compare
from smt_bench.evidence.words import rank
from smt_bench.records.store import Record

A, B, SUM, BOTH, OWN = "A alone", "B alone", "A + B", "both at once", "each on its own"


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

    def better(self, method: str, fraction: float | None) -> str:
        """The half whose adapter is the more accurate one on all tasks, over all seeds, as the paper has it; of equal ones A."""
        means = {what: self.accuracy(method, what, fraction) for what in (A, B)}
        return max(means, key=lambda what: -math.inf if (mean := means[what]) is None else mean)

    def accuracy(self, method: str, what: str, fraction: float | None) -> float | None:
        """A cell's mean over all tasks and seeds (%)."""
        group = self.group(method, what, fraction)
        return None if group is None else statistics.fmean(group.answers.accuracies(self.tasks))

    def minus(self, method: str, first: str, second: str, fraction: float | None) -> Estimate | None:
        """One cell of a method minus another (points); None where one has no numbers."""
        a, b = (self.group(method, what, fraction) for what in (first, second))
        return None if a is None or b is None else compare(a, b, self.tasks).accuracy

    def chosen_alike(self, method: str, fraction: float | None) -> list[tuple[float, float]]:
        """How much alike two choices of blocks are, of each seed whose runs name theirs.

        Returns:
            The share (%) of the smaller choice that the other has too, and what it would be if both had drawn from all blocks.
        """
        by_seed: dict[int, list[Any]] = {}
        for what in (A, B):
            group = self.group(method, what, fraction)
            for record in group.done if group is not None else ():
                by_seed.setdefault(record["run"]["seed"], []).append(record.get("method") or {})
        made = []
        for described in by_seed.values():
            blocks = [{(n, *b) for n, own in (d.get("blocks") or {}).items() for b in own} for d in described]
            if len(blocks) == 2 and all(blocks):
                one, other = blocks
                share = len(one & other) / min(len(one), len(other))
                made.append((100 * share, 100 * max(len(one), len(other)) / described[0]["blocks_available"]))
        return made


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

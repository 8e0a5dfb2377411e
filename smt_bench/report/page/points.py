"""Cells as points: what each costs and what it gives, and which are surely worse than another.

Three kinds of quantities. What follows from the question (trainable fraction, bytes of what is trained) is compared as it
is. What a machine measured (seconds, peaks) is only told apart where the intervals over seeds do not meet. What is judged on
examples (accuracy, held-out loss) goes through the one decision of `evidence.decisions`, on all pairs of cells together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from smt_bench.evidence.cells import Cells, Group, accuracy, common_tasks, groups
from smt_bench.evidence.decisions import AHEAD, BEHIND, OPEN, WITHIN, benjamini_hochberg
from smt_bench.evidence.pairs import compare, decided
from smt_bench.evidence.stats import mean_ci
from smt_bench.records import heldout
from smt_bench.records.store import Record

GENERAL = "general-"  # what sets of general text are called in records
MOST = 40  # cells whose pairs are compared: 780 pairs; of more the best of every fraction
SIDES = {AHEAD: BEHIND, BEHIND: AHEAD, WITHIN: WITHIN, OPEN: OPEN}  # a decision from the other side
Kind = Literal["exact", "measured", "judged"]


@dataclass(frozen=True)
class Quantity:
    """One axis.

    Attributes:
        name: in the page's data.
        title: with its unit.
        unit: behind a number in a sentence.
        digits: after the point.
        kind: how two values are told apart, see above.
        high: whether more is better.
        value: of a finished record; None where it has none.
    """

    name: str
    title: str
    unit: str
    digits: int
    kind: Kind
    high: bool
    value: Callable[[Record, Sequence[str]], float | None]

    @property
    def gives(self) -> bool:
        """Whether it is what a method is for, not what it costs."""
        return self.name in ("accuracy", "nll", "general")


def _fraction(record: Record, tasks: Sequence[str]) -> float | None:
    capacity = record.get("capacity") or {}
    return None if not capacity else 100 * float(capacity["fraction"])


def _state(record: Record, tasks: Sequence[str]) -> float | None:
    memory = record.get("memory_bytes") or {}
    parts = [memory.get(name) for name in ("trainable_parameters", "optimizer_state")]
    return None if None in parts else sum(map(float, parts)) / 1e6  # type: ignore[arg-type]  # none is None


def _peak(record: Record, tasks: Sequence[str]) -> float | None:
    """Of the GPUs where there are any, else of the process; not of a process that did other things before."""
    memory = record.get("memory_bytes") or {}
    gpus = [v for name, v in memory.items() if name.startswith("gpu") and name.endswith("_peak")]
    peak = sum(gpus) or memory.get("process_peak")
    return None if not peak else float(peak) / 1e6


def _seconds(record: Record, tasks: Sequence[str]) -> float | None:
    seconds = record.get("seconds") or {}
    return None if "tuning" not in seconds else float(seconds["tuning"]) + float(seconds.get("warmup", 0.0))


def _accuracy(record: Record, tasks: Sequence[str]) -> float | None:
    return accuracy(record, tasks) if tasks else None


def _nll(record: Record, tasks: Sequence[str]) -> float | None:
    return heldout.nll(record, "report")


def _general(record: Record, tasks: Sequence[str]) -> float | None:
    """Loss on the general text of the run; None where it has none, or several."""
    found = [one.get("nll") for name, one in (record.get("losses") or {}).items() if name.startswith(GENERAL)]
    return None if len(found) != 1 or found[0] is None else float(found[0])


QUANTITIES = (
    Quantity("accuracy", "accuracy (%)", " %", 1, "judged", True, _accuracy),
    Quantity("nll", "held-out loss (nats per token)", " nats", 4, "judged", False, _nll),
    Quantity("general", "loss on general text (nats per token; forgetting)", " nats", 4, "measured", False, _general),
    Quantity("fraction", "trainable parameters (% of the model)", " %", 3, "exact", False, _fraction),
    Quantity("state", "trained weights and optimizer state (MB)", " MB", 1, "exact", False, _state),
    Quantity("peak", "peak memory of the run (MB)", " MB", 0, "measured", False, _peak),
    Quantity("seconds", "training time (s)", " s", 1, "measured", False, _seconds),
)
JUDGED = {"accuracy": "", "nll": "nll_"}  # prefixes of `evidence.pairs`
BY_NAME = {q.name: q for q in QUANTITIES}


@dataclass(frozen=True)
class Point:
    """One cell.

    Attributes:
        label: method and fraction.
        method: its name.
        pct: the requested trainable fraction (%); None for those without.
        values: by quantity, mean and half-width of the 95 % interval over seeds (None: one seed, or no spread).
        runs: one per seed: key, seed and its values by quantity.
    """

    label: str
    method: str
    pct: float | None
    values: dict[str, tuple[float, float | None]]
    runs: tuple[dict[str, Any], ...]

    @property
    def keys(self) -> list[str]:
        """Of its runs."""
        return [run["key"] for run in self.runs]


@dataclass
class Field:
    """The cells of one setting and what can be told of their pairs.

    Attributes:
        points: cells with numbers that train.
        base: the untouched model, where it was judged.
        lost: labels of cells without any number, and what became of them.
        zones: by quantity, of compared pairs (first, second): the decision, seen from the first.
        compared: labels of the points whose pairs were compared.
        tasks: that accuracy is the mean of.
        record: one of them, for conditions.
    """

    points: list[Point]
    base: Point | None
    lost: dict[str, str]
    zones: dict[str, dict[tuple[str, str], str]]
    compared: set[str]
    tasks: list[str]
    record: Record
    whys: dict[str, str] = field(default_factory=dict)

    def zone(self, quantity: str, a: str, b: str) -> str:
        """What is known of two points; open where they were not compared."""
        return self.zones.get(quantity, {}).get((a, b), OPEN)

    def present(self) -> list[Quantity]:
        """Quantities that two points or more have."""
        return [q for q in QUANTITIES if sum(q.name in p.values for p in self.points) > 1]


def field_of(records: Sequence[Record] | Cells) -> Field | None:
    """Cells that differ in method and fraction alone; None where there are fewer than two, or they differ in something else."""
    try:
        found = groups(records)
    except ValueError:
        return None
    if any(g.older for g in found):  # a table of variants: two records of a cell are no seeds of one question
        return None
    tasks = common_tasks(found)
    usable = [g for g in found if g.done and g.trains]
    points = [_point(g, tasks) for g in usable]
    if len({p.method for p in points}) < 2 or len({p.label for p in points}) < len(points):
        return None
    base = next((_point(g, tasks) for g in found if g.done and not g.trains), None)
    lost = {g.label: g.status for g in found if not g.done}
    chosen = _compared(usable, points)
    zones, whys = _zones([g for g, p in zip(usable, points) if p.label in chosen], tasks)
    return Field(points, base, lost, zones, chosen, tasks, usable[0].done[0], whys)


def _point(group: Group, tasks: Sequence[str]) -> Point:
    runs = []
    for record in group.done:
        values = {q.name: v for q in QUANTITIES if (v := q.value(record, tasks)) is not None}
        runs.append({"key": record["key"], "seed": record["run"]["seed"], **values})
    means = {}
    for q in QUANTITIES:
        known = [run[q.name] for run in runs if q.name in run]
        if known and len(known) == len(runs):  # a mean over some of the seeds would be that of another cell
            means[q.name] = mean_ci(known)
    return Point(group.label, group.method, group.fraction_pct, means, tuple(runs))


def _compared(found: Sequence[Group], points: Sequence[Point]) -> set[str]:
    if len(points) <= MOST:
        return {p.label for p in points}
    by_fraction: dict[float | None, list[Point]] = {}
    for point in points:
        by_fraction.setdefault(point.pct, []).append(point)
    share = max(1, MOST // len(by_fraction))
    best = [
        sorted(own, key=lambda p: -p.values["accuracy"][0] if "accuracy" in p.values else 0.0)[:share]
        for own in by_fraction.values()
    ]
    return {p.label for own in best for p in own}


def _zones(
    found: Sequence[Group], tasks: Sequence[str]
) -> tuple[dict[str, dict[tuple[str, str], str]], dict[str, str]]:
    """By quantity the decisions on all pairs, corrected together (Benjamini and Hochberg: nobody declared them); and why not."""
    made = [compare(a, b, tasks) for a, b in combinations(found, 2)]
    zones: dict[str, dict[tuple[str, str], str]] = {}
    whys = {}
    for name, prefix in JUDGED.items():
        pairs = [(c, d) for c, d in zip(made, decided(made, prefix, benjamini_hochberg)) if c.favouring(prefix)]
        zones[name] = {}
        for c, d in pairs:
            zones[name][c.a.label, c.b.label], zones[name][c.b.label, c.a.label] = d.zone, SIDES[d.zone]
        reasons = {d.why for _, d in pairs}
        if len(reasons) == 1 and (why := reasons.pop()):
            whys[name] = why
    return zones, whys


def not_dearer(field: Field, q: Quantity, a: Point, b: Point) -> bool:
    """Whether a is surely no worse than b in a quantity."""
    if q.kind == "judged":
        return field.zone(q.name, a.label, b.label) in (AHEAD, WITHIN)
    mine, theirs = a.values.get(q.name), b.values.get(q.name)
    if mine is None or theirs is None:
        return False
    if q.kind == "exact":
        return mine[0] >= theirs[0] if q.high else mine[0] <= theirs[0]
    if mine[1] is None or theirs[1] is None:
        return False
    return mine[0] + mine[1] <= theirs[0] - theirs[1]


def surely_better(field: Field, q: Quantity, a: Point, b: Point) -> bool:
    """Whether a is surely better than b in a quantity."""
    if q.kind == "judged":
        return field.zone(q.name, a.label, b.label) == AHEAD
    return not_dearer(field, q, a, b) and a.values[q.name][0] != b.values[q.name][0]


def state(found: Field, x: Quantity, y: Quantity, point: Point) -> str:
    """Where a point stands among those with both numbers.

    Returns:
        "front": no other has better means in one and none worse in the other; "dominated": another is surely no worse in both
        and surely better in one; "open": neither.
    """
    rivals = [p for p in found.points if p is not point and x.name in p.values and y.name in p.values]
    for rival in rivals:
        no_worse = not_dearer(found, x, rival, point) and not_dearer(found, y, rival, point)
        if no_worse and (surely_better(found, x, rival, point) or surely_better(found, y, rival, point)):
            return "dominated"

    def worth(p: Point) -> tuple[float, float]:
        return tuple(p.values[q.name][0] if q.high else -p.values[q.name][0] for q in (x, y))  # type: ignore[return-value]

    own = worth(point)
    beaten = any(all(m >= o for m, o in zip(worth(r), own)) and worth(r) != own for r in rivals)
    return "open" if beaten else "front"

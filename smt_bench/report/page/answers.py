"""Which method for which budget: one sentence per budget, and what cannot be told said plainly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smt_bench.evidence.decisions import AHEAD, WITHIN, margins
from smt_bench.evidence.words import percent
from smt_bench.report.numbers import written
from smt_bench.report.page.points import BY_NAME, Field, Point, Quantity

SHARES = (0.1, 0.25, 0.5, 1.0)  # of the dearest cell's cost, for budgets that are no fraction


@dataclass(frozen=True)
class Answer:
    """What to take within a budget, by one quantity.

    Attributes:
        best: the point with the best mean.
        number: its value with its interval.
        same: points that are as good (within the margin).
        open: points of which it cannot be told.
        behind: points that are surely behind.
        lone: whether there is no other point within the budget.
    """

    best: Point
    number: str
    same: tuple[Point, ...]
    open: tuple[Point, ...]
    behind: tuple[Point, ...]
    lone: bool

    @property
    def clear(self) -> bool:
        """Whether the best is ahead of all others."""
        return not (self.same or self.open or self.lone)

    @property
    def words(self) -> str:
        """E.g. "SMT 1 %", "SMT 1 % or LoRA 1 % (as good)", "cannot be told: SMT 4 %, LoRA 4 %"."""
        if self.open:
            return f"Cannot be told between {named([self.best, *self.same, *self.open])}"
        if self.same:
            return f"{named([self.best, *self.same])}: as good as each other"
        return f"{self.best.label}" + (" (nothing to compare it with)" if self.lone else "")


@dataclass(frozen=True)
class Line:
    """A budget and what to take within it, by quantity."""

    budget: str
    answers: dict[str, Answer]


def named(points: Sequence[Point], most: int = 6) -> str:
    """Labels in a row, the first ones."""
    more = len(points) - most
    return ", ".join(p.label for p in points[:most]) + (f" and {more} more" if more > 0 else "")


def best(found: Field, q: Quantity, points: Sequence[Point]) -> Answer | None:
    """The answer among some points; None where none has a number."""
    known = sorted((p for p in points if q.name in p.values), key=lambda p: p.values[q.name][0], reverse=q.high)
    if not known:
        return None
    first, *others = known
    zones = {p.label: found.zone(q.name, first.label, p.label) for p in others}
    mean, half = first.values[q.name]
    return Answer(
        first,
        written(mean, q.digits, half) or "",
        tuple(p for p in others if zones[p.label] == WITHIN),
        # The best mean can be surely behind nobody; what says so is counted as open.
        tuple(p for p in others if zones[p.label] not in (WITHIN, AHEAD)),
        tuple(p for p in others if zones[p.label] == AHEAD),
        not others,
    )


def by_budget(found: Field, cost: Quantity) -> list[Line]:
    """One line per budget of a cost; budgets that allow the same points as a smaller one are left out."""
    lines, before = list[Line](), set[str]()
    for name, limit in budgets(found, cost):
        inside = [p for p in found.points if cost.name in p.values and p.values[cost.name][0] <= limit]
        labels = {p.label for p in inside}
        if not labels or labels == before:
            continue
        before = labels
        answers = {q: a for q in ("accuracy", "nll") if (a := best(found, BY_NAME[q], inside)) is not None}
        if answers:
            lines.append(Line(name, answers))
    return lines


def judged_by(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """The columns of a table of answers, name and title: accuracy, held-out loss, where some line has an answer by it."""
    titles = {"accuracy": "accuracy", "nll": "held-out loss"}
    return [(name, title) for name, title in titles.items() if any(name in line.answers for line in lines)]


def budgets(found: Field, cost: Quantity) -> list[tuple[str, float]]:
    """Words and limit of every budget: the requested fractions, or shares of what the dearest cell costs."""
    if cost.name == "fraction":
        # A requested 1 % may have become 1.2 %: what was asked for 1 % belongs to the budget of 1 %.
        asked: dict[float, float] = {}
        for p in found.points:
            if p.pct is not None and cost.name in p.values:
                asked[p.pct] = max(asked.get(p.pct, 0.0), p.values[cost.name][0])
        made, limit = list[tuple[str, float]](), 0.0
        for pct in sorted(asked):
            limit = max(limit, asked[pct])
            made.append((f"up to {percent(pct)} trainable", limit))
        return [*made, ("with no limit", float("inf"))]
    most = max((p.values[cost.name][0] for p in found.points if cost.name in p.values), default=0.0)
    if not most:
        return []
    return [
        (f"up to {share * most:,.{_places(share * most)}f}{cost.unit}" if share < 1 else "with no limit", share * most)
        for share in SHARES
    ]


def _places(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 1 else 3


def headline(found: Field) -> list[str]:
    """The answer in a few sentences: budgets of trainable parameters, by accuracy, then held-out loss."""
    lines = by_budget(found, BY_NAME["fraction"])
    told = []
    for name, title in (("accuracy", "By accuracy"), ("nll", "By held-out loss")):
        parts = [(line.budget, line.answers[name]) for line in lines if name in line.answers]
        if not parts:
            continue
        if why := found.whys.get(name):
            told.append(f"{title}, it cannot be told which method is best ({why}): numbers without a verdict.")
            continue
        clear = [f"{a.best.label} is best {budget}" for budget, a in parts if a.clear]
        unclear = [budget for budget, a in parts if not a.clear and not a.lone]
        told.append(f"{title}: " + "; ".join([*clear, *([_unclear(unclear)] if unclear else [])]) + ".")
    return told


def _unclear(budgets: Sequence[str]) -> str:
    """E.g. "up to 2 and 4 % trainable it cannot be told which is best"."""
    shares = [found[1] for b in budgets if (found := re.fullmatch(r"up to (\S+) % trainable", b))]
    others = [b for b in budgets if not re.fullmatch(r"up to (\S+) % trainable", b)]
    joined = " and ".join(part for part in (", ".join(shares[:-1]), *shares[-1:]) if part)
    return (
        f"{', '.join([*([f'up to {joined} % trainable'] if shares else []), *others])}: it cannot be told which is best"
    )


def rule() -> str:
    """How an answer is found, in sentences."""
    m = margins()
    return (
        "Within a budget the cell with the best mean stands first. It is called best only where it is surely ahead of every "
        "other cell within the budget: all pairs of cells are compared, with intervals over new seeds and new examples, and "
        "corrected together (Benjamini and Hochberg, 5 %; nobody declared these comparisons beforehand). As good: the 90 % "
        f"interval of the difference lies within ± {m.points:g} point of accuracy, ± {m.nats:g} nats. Everything else cannot be "
        "told, and one seed never decides anything."
    )

"""What the papers' text says of their tables: kinds of statements, each with its check.

A statement names its section and quotes a few words. Differences, ratios and sums are computed from the printed numbers
as intervals (`finding`): they agree if some unrounded numbers behind the printed ones could give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from smt_bench.audit.finding import AGREES, UNKNOWN, Finding, Interval, against, differs, mean, rounded
from smt_bench.audit.noise import METRICS, bound
from smt_bench.audit.tables import Cell, Tables, find_row, number, tasks_of, title

CHECK = "statement"
_NAMED = 3  # exceptions named in a verdict


@dataclass(frozen=True)
class Statement:
    """What all statements have.

    Attributes:
        where: paper and section.
        says: a few words of the text.
        about: which numbers it is about.
    """

    where: str
    says: str
    about: str

    def finding(self, printed: Decimal | str | None, computed: Decimal | str | None, verdict: str) -> Finding:
        """The audit's line on this statement."""
        return Finding(CHECK, self.where, f'"{self.says}"', self.about, printed, computed, verdict)

    def missing(self, printed: Decimal | str | None) -> Finding:
        """The line where the tables lack a number that the statement needs."""
        return self.finding(printed, None, f"{UNKNOWN}: not in the tables")

    def check(self, tables: Tables) -> Finding:
        """Holds the statement against the tables."""
        raise NotImplementedError


@dataclass(frozen=True)
class Amounts(Statement):
    """A number that follows from other numbers of the text or of an architecture."""

    printed: Decimal
    computed: Interval

    def check(self, tables: Tables) -> Finding:
        """Printed against computed."""
        return self.finding(self.printed, *against(self.printed, self.computed))


@dataclass(frozen=True)
class Difference(Statement):
    """`left` is `printed` points above `right`."""

    printed: Decimal
    left: Cell
    right: Cell

    def check(self, tables: Tables) -> Finding:
        """Printed difference against that of the printed numbers."""
        a, b = self.left.find(tables), self.right.find(tables)
        if a is None or b is None:
            return self.missing(self.printed)
        return self.finding(self.printed, *against(self.printed, Interval.of(a) - Interval.of(b)))


@dataclass(frozen=True)
class Similar(Statement):
    """Two numbers are similar: no further apart than two runs of one configuration (`noise.bound`)."""

    left: Cell
    right: Cell

    def check(self, tables: Tables) -> Finding:
        """The difference against the noise."""
        a, b = self.left.find(tables), self.right.find(tables)
        least = bound(tables.get(METRICS, ()))
        if a is None or b is None or least is None:
            return self.missing("similar")
        verdict = AGREES if abs(a - b) <= least else f"differs by {abs(a - b)}"
        return self.finding("similar", f"{a} and {b}", verdict)


@dataclass(frozen=True)
class AtMost(Statement):
    """How much of a printed number a limit leaves to be explained.

    Attributes:
        printed: the number.
        limit: what the named cause can give at most.
        otherwise: what else is in the number if it is larger.
    """

    printed: Decimal
    limit: Decimal
    otherwise: str

    def check(self, tables: Tables) -> Finding:
        """Printed number against the limit."""
        verdict = AGREES if Interval.of(self.printed).low < self.limit else f"{UNKNOWN}: {self.otherwise}"
        return self.finding(self.printed, f"at most {self.limit}", verdict)


@dataclass(frozen=True)
class MeanDifference(Statement):
    """`left`'s row is `printed` points above `right`'s, by the means of the printed scores."""

    printed: Decimal
    left: Cell
    right: Cell

    def check(self, tables: Tables) -> Finding:
        """Printed difference against that of the rows' means."""
        rows = [find_row(tables.get(c.table, ()), c.where) for c in (self.left, self.right)]
        scores = [[number(row[task]) for task in tasks_of(row)] if row else [] for row in rows]
        known = [[s for s in part if s is not None] for part in scores]
        if not all(known) or known != scores:
            return self.missing(self.printed)
        return self.finding(self.printed, *against(self.printed, mean(known[0]) - mean(known[1])))


@dataclass(frozen=True)
class Ratio(Statement):
    """`above` is `printed` times `below`."""

    printed: Decimal
    above: Cell
    below: Cell

    def check(self, tables: Tables) -> Finding:
        """Printed ratio against that of the printed numbers."""
        a, b = self.above.find(tables), self.below.find(tables)
        if a is None or b is None:
            return self.missing(self.printed)
        return self.finding(self.printed, *against(self.printed, Interval.of(a) / Interval.of(b)))


@dataclass(frozen=True)
class Equal(Statement):
    """The text's number is that of a cell."""

    printed: Decimal
    cell: Cell

    def check(self, tables: Tables) -> Finding:
        """The text's number against the table's."""
        value = self.cell.find(tables)
        if value is None:
            return self.missing(self.printed)
        if Interval.of(self.printed).meets(Interval.of(value)):
            return self.finding(self.printed, value, AGREES)
        return self.finding(self.printed, value, f"{differs(self.printed, value)} from {title(self.cell.table)}")


@dataclass(frozen=True)
class SameRow(Statement):
    """A row's setting is `printed`; another table shows under which setting exactly these numbers stand."""

    printed: Decimal
    cell: Cell
    table: str
    setting: str

    def check(self, tables: Tables) -> Finding:
        """The setting of the text against that of the identical row."""
        row = find_row(tables.get(self.cell.table, ()), self.cell.where)
        same = [
            other
            for other in tables.get(self.table, ())
            if row is not None and tasks_of(row) and all(other.get(task) == row[task] for task in tasks_of(row))
        ]
        if len(same) != 1:
            return self.missing(self.printed)
        value = Decimal(same[0][self.setting])
        verdict = AGREES if value == self.printed else f"{differs(self.printed, value)}: the row of {title(self.table)}"
        return self.finding(self.printed, value, verdict)


@dataclass(frozen=True)
class Below(Statement):
    """A number is less than `limit`."""

    limit: Decimal
    value: Interval

    def check(self, tables: Tables) -> Finding:
        """All numbers that print like the value against the limit."""
        low, high = self.value.low, self.value.high
        if high <= self.limit and low < self.limit:
            verdict = AGREES
        elif low < self.limit:
            verdict = f"{UNKNOWN}: within rounding"
        else:
            verdict = f"not below {self.limit}"
        shown = self.value.middle
        if low != high:
            shown = rounded(shown, Decimal("0.01"))
        return self.finding(f"below {self.limit}", shown, verdict)


@dataclass(frozen=True)
class AtLeast(Statement):
    """Every first cell is at least `printed` points above its second."""

    printed: Decimal
    pairs: tuple[tuple[Cell, Cell], ...]

    def check(self, tables: Tables) -> Finding:
        """The smallest of the differences against the claim."""
        values = [(a.find(tables), b.find(tables)) for a, b in self.pairs]
        margins = [a - b for a, b in values if a is not None and b is not None]
        if len(margins) < len(self.pairs):
            return self.missing(f"at least {self.printed}")
        least = min(margins)
        verdict = AGREES if least >= self.printed else f"differs by {self.printed - least}"
        return self.finding(f"at least {self.printed}", least, verdict)


@dataclass(frozen=True)
class Ahead(Statement):
    """In every pair the first cell beats the second.

    Attributes:
        claim: the claim in a word or two, e.g. "consistently".
        pairs: cells to compare.
        lower: whether lower numbers are better.
        most: the claim is about more than half of the pairs, not about all.
    """

    claim: str
    pairs: tuple[tuple[Cell, Cell], ...]
    lower: bool = False
    most: bool = False

    def check(self, tables: Tables) -> Finding:
        """Counts the pairs and names the exceptions."""
        values = [(a, a.find(tables), b.find(tables)) for a, b in self.pairs]
        known = [(c, a, b) for c, a, b in values if a is not None and b is not None]
        if not known or len(known) < len(self.pairs):
            return self.missing(self.claim)
        against_it = [(c, a, b) for c, a, b in known if not (a < b if self.lower else a > b)]
        good = len(known) - len(against_it)
        if not against_it or (self.most and good > len(known) / 2):
            verdict = AGREES
        elif self.most:
            verdict = "not most"
        else:
            named = ", ".join(f"{c.column} {a} to {b}" for c, a, b in against_it[:_NAMED])
            more = len(against_it) - _NAMED
            verdict = f"not in {len(against_it)}: {named}" + (f" and {more} more" if more > 0 else "")
        return self.finding(self.claim, f"{good} of {len(known)}", verdict)


@dataclass(frozen=True)
class Rises(Statement):
    """Every cell is above the one before."""

    claim: str
    cells: tuple[Cell, ...]

    def check(self, tables: Tables) -> Finding:
        """Names the falls."""
        values = [c.find(tables) for c in self.cells]
        known = [v for v in values if v is not None]
        if len(known) < len(values):
            return self.missing(self.claim)
        falls = [f"{a} to {b}" for a, b in zip(known, known[1:]) if b <= a]
        verdict = AGREES if not falls else f"falls from {', '.join(falls)}"
        return self.finding(self.claim, ", ".join(map(str, known)), verdict)


@dataclass(frozen=True)
class Best(Statement):
    """One row of a table has the highest average."""

    expected: str
    table: str
    setting: str

    def check(self, tables: Tables) -> Finding:
        """The row that the text names against the one with the highest average."""
        scores: dict[str, Decimal] = {}
        for row in tables.get(self.table, ()):
            value = number(row["avg"])
            if value is not None:
                scores[row[self.setting]] = value
        if self.expected not in scores:
            return self.missing(self.expected)
        order: Sequence[str] = sorted(scores, key=lambda name: -scores[name])
        place = order.index(self.expected) + 1
        verdict = AGREES if scores[self.expected] == scores[order[0]] else f"is number {place} of {len(order)}"
        return self.finding(self.expected, order[0], verdict)

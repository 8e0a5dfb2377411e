"""What the papers' text says of their tables: kinds of statements, each with its check.

A statement names its section and quotes a few words. Differences, ratios and sums are computed from the printed numbers
as intervals (`finding`): they agree if some unrounded numbers behind the printed ones could give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from smt_bench.audit.checks.noise import METRICS, bound
from smt_bench.audit.finding import AGREES, UNKNOWN, Finding, Interval, against, differs, mean, rounded
from smt_bench.audit.printed import Cell, Tables, find_row, number, tasks_of, title

CHECK = "statement"


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

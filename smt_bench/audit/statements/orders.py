"""Statements on what is ahead of what: leads, orders and best rows, each with its check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from smt_bench.audit.finding import AGREES, Finding
from smt_bench.audit.printed import Cell, Tables, number
from smt_bench.audit.statements.kinds import Statement

_NAMED = 3  # exceptions named in a verdict


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
class Unsurpassed(Statement):
    """None of some cells is above the first; the same number is no gain."""

    claim: str
    first: Cell
    others: tuple[Cell, ...]

    def check(self, tables: Tables) -> Finding:
        """Names the numbers above the first."""
        first, values = self.first.find(tables), [c.find(tables) for c in self.others]
        known = [v for v in values if v is not None]
        if first is None or not known or len(known) < len(values):
            return self.missing(self.claim)
        above = [str(v) for v in known if v > first]
        verdict = f"not so: {first} to {', '.join(above)}" if above else AGREES
        return self.finding(self.claim, f"{first}; then {', '.join(map(str, known))}", verdict)


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

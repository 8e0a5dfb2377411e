"""What one check says of one printed number, and the arithmetic of printed numbers.

A printed number stands for all numbers that round to it: "78.7" for 78.65 up to 78.75. Whatever is computed from printed
numbers is therefore an interval, and the one rule of tolerance is: a printed number agrees if some unrounded numbers
behind the printed ones could give it. Decimals are exact, so that the rule holds to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

AGREES, UNKNOWN = "agrees", "cannot be told"


@dataclass(frozen=True)
class Finding:
    """One line of the audit.

    Attributes:
        check: which check.
        table: the table, or the section whose text is checked.
        row: row of the table, or the statement.
        column: column of the table, or what the statement is about.
        printed: the number as printed, or the claim in words; None where it is not printed.
        computed: what follows from the other printed numbers; None where nothing does.
        verdict: begins with "agrees" or "cannot be told"; everything else says what is wrong.
    """

    check: str
    table: str
    row: str
    column: str
    printed: Decimal | str | None
    computed: Decimal | str | None
    verdict: str

    @property
    def holds(self) -> bool | None:
        """True, False, or None where it cannot be told."""
        if self.verdict.startswith(UNKNOWN):
            return None
        return self.verdict.startswith(AGREES)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; numbers as numbers."""
        return {
            "table": self.table,
            "row": self.row,
            "column": self.column,
            "printed": plain(self.printed),
            "computed": plain(self.computed),
            "verdict": self.verdict,
            "check": self.check,
        }


def plain(value: Decimal | str | None) -> float | str | None:
    """A number for JSON; text as it is."""
    return float(value) if isinstance(value, Decimal) else value


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` up to, but without, `high`; of no width where an exact number is meant."""

    low: Decimal
    high: Decimal

    @classmethod
    def of(cls, printed: Decimal) -> Interval:
        """The numbers that are printed like this."""
        half = unit(printed) / 2
        return cls(printed - half, printed + half)

    @classmethod
    def exact(cls, value: Decimal | int) -> Interval:
        """A number that was not rounded, such as a count."""
        return cls(Decimal(value), Decimal(value))

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __truediv__(self, other: Interval) -> Interval:
        """Of positive numbers."""
        assert self.low > 0 and other.low > 0
        return Interval(self.low / other.high, self.high / other.low)

    def scaled(self, factor: Decimal | int) -> Interval:
        """All numbers times a positive factor."""
        return Interval(self.low * factor, self.high * factor)

    @property
    def middle(self) -> Decimal:
        """The number in the middle."""
        return (self.low + self.high) / 2

    def meets(self, other: Interval) -> bool:
        """Whether some number is in both."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return low < high or (low == high and (self.low == self.high or other.low == other.high))


def unit(printed: Decimal) -> Decimal:
    """One unit of the last printed digit: 0.1 for 78.7, 0.01 for 80.60."""
    exponent = printed.as_tuple().exponent
    assert isinstance(exponent, int), f"{printed} is no number"
    return Decimal(1).scaleb(exponent)


def rounded(value: Decimal, like: Decimal) -> Decimal:
    """`value` with as many decimals as `like`; halves away from zero."""
    return value.quantize(unit(like), ROUND_HALF_UP)


def mean(values: Iterable[Decimal]) -> Interval:
    """Mean of printed numbers."""
    parts = [Interval.of(v) for v in values]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole.scaled(Decimal(1) / len(parts))


def against(printed: Decimal, computed: Interval) -> tuple[Decimal, str]:
    """The computed number, one digit finer than printed where that says more, and the verdict on the printed one."""
    coarse, fine = rounded(computed.middle, printed), rounded(computed.middle, printed.scaleb(-1))
    shown = coarse if coarse == fine else fine
    if coarse == printed:
        return shown, AGREES
    if Interval.of(printed).meets(computed):
        return shown, f"{AGREES} within rounding"
    return shown, differs(printed, computed.middle)


def differs(printed: Decimal, computed: Decimal) -> str:
    """How far a printed number is from the computed one, in units of its last digit."""
    off = abs(printed - rounded(computed, printed))
    return f"differs by {off or abs(printed - computed):f}"

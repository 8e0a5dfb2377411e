"""Where `tune` looks for a method's settings: ranges, and what a number between 0 and 1 becomes in one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """A range of one setting; every value of it is as likely as any other, on the scale given.

    Attributes:
        low: the smallest value.
        high: the largest.
        log: equal factors are equally likely; else equal differences.
        whole: whole numbers only.

    Raises:
        ValueError: no range.
    """

    low: float
    high: float
    log: bool = True
    whole: bool = False

    def __post_init__(self) -> None:
        if not (
            math.isfinite(self.low)
            and math.isfinite(self.high)
            and self.low <= self.high
            and (self.low > 0 or not self.log)
        ):
            raise ValueError(
                f"range {self.low:g} to {self.high:g}: choose a low end, above 0 on a log scale, and a higher one"
            )

    def value(self, part: float) -> float | int:
        """The value below which `part` (0 to 1) of the range lies, to three digits."""
        found = self.low * (self.high / self.low) ** part if self.log else self.low + part * (self.high - self.low)
        return (
            min(max(round(found), math.ceil(self.low)), math.floor(self.high)) if self.whole else float(f"{found:.3g}")
        )

    def part(self, value: float) -> float:
        """Which part of the range lies below a value: the inverse of `value`, but for rounding; 0.5 in a range of one value."""
        if self.low == self.high:
            return 0.5
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))

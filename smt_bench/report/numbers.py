"""How a number is written with its intervals, in every table."""

from __future__ import annotations

import math


def written(
    value: float | None,
    digits: int,
    half: float | None = None,
    between: tuple[float, float] | None = None,
    signed: bool = False,
) -> str | None:
    """A number for people, e.g. "76.3", "76.3 ± 1.2", "+4.2 ± 1.3 [+2.8, +5.5]".

    Args:
        value: the number; None and NaN give None, a blank cell.
        digits: after the point.
        half: half-width of the interval over seeds; None or NaN where there is none.
        between: ends of the interval over examples.
        signed: whether positive numbers, and the ends, have a sign: for differences.
    """
    if value is None or math.isnan(value):
        return None
    form = f"{'+' if signed else ''}.{digits}f"
    text = f"{value:{form}}"
    if half is not None and not math.isnan(half):
        text += f" ± {half:.{digits}f}"
    return text if between is None else f"{text} [{between[0]:{form}}, {between[1]:{form}}]"

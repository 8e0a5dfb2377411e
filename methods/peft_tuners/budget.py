"""The value of a tuner's knob whose trainable numbers come nearest to a fraction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Nearest:
    """What the search found.

    Attributes:
        units: the knob's value.
        trainable: its trainable numbers.
        gap: trainable numbers between the two values around the request: the smallest step that could be taken there.
    """

    units: int
    trainable: int
    gap: int


class Outside(Exception):
    """A request below the smallest or above the largest value; `trainable` is what that value gives."""

    def __init__(self, low: bool, trainable: int) -> None:
        super().__init__()
        self.low, self.trainable = low, trainable


def nearest(values: Sequence[int], count: Callable[[int], int], wanted: float) -> Nearest:
    """Searches a monotone count, by interpolation, since most are straight lines, and later by bisection in turns.

    Args:
        values: of the knob, in order; at least one.
        count: trainable numbers of a value; grows or falls along `values`.
        wanted: trainable numbers.

    Raises:
        Outside: the nearest end is more than half a step off.
    """
    if len(values) > 1 and count(values[0]) > count(values[-1]):
        values = values[::-1]
    low, high = 0, len(values) - 1
    if wanted <= count(values[low]) or low == high:
        return _end(values, count, wanted, low, min(1, high))
    if wanted >= count(values[high]):
        return _end(values, count, wanted, high, high - 1)
    tries = 0
    while high - low > 1:
        below, above = count(values[low]), count(values[high])
        straight = (tries < 4 or tries % 2 == 0) and above > below
        middle = low + round((high - low) * (wanted - below) / (above - below)) if straight else (low + high) // 2
        middle = min(max(middle, low + 1), high - 1)
        tries += 1
        if count(values[middle]) <= wanted:
            low = middle
        else:
            high = middle
    below, above = count(values[low]), count(values[high])
    units, trainable = (values[low], below) if wanted - below <= above - wanted else (values[high], above)
    return Nearest(units, trainable, above - below)


def _end(values: Sequence[int], count: Callable[[int], int], wanted: float, end: int, next_to_it: int) -> Nearest:
    """The first or last value, where it is near enough; below the first one nothing trains, which is a step as well."""
    trainable = count(values[end])
    gap = abs(count(values[next_to_it]) - trainable) if next_to_it != end else trainable
    if wanted < trainable:
        gap = min(gap, trainable)
    if abs(trainable - wanted) > gap / 2 and trainable != wanted:
        raise Outside(trainable > wanted, trainable)
    return Nearest(values[end], trainable, gap)

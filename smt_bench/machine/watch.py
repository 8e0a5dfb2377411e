"""Who sees a run go by: progress bars, claims, or nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Watcher(Protocol):
    """Sees a run go by; the progress bars are one."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of `phase` are finished."""


def unwatched(phase: str, done: int, total: int, note: str = "") -> None:
    """Nobody looks."""


Progress = Callable[[str, int, int], None]  # what is being computed, examples done, examples in all

"""Seconds by part of a run, added up over the processes that worked on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Timer:
    """Adds the seconds of a block to a part, on top of what an interrupted process had spent on it.

    Args:
        seconds: per part; filled in at the end of the block.
        part: what the block is booked under.
    """

    def __init__(self, seconds: dict[str, float], part: str) -> None:
        self.seconds, self.part = seconds, part

    def __enter__(self) -> Timer:
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent = time.perf_counter() - self.start
        self.seconds[self.part] = round(self.seconds.get(self.part, 0.0) + spent, 4)

    @contextmanager
    def paused(self, part: str) -> Iterator[None]:
        """Books a block under another part; what was spent until then is in `seconds` before it starts."""
        self.__exit__()
        try:
            with Timer(self.seconds, part):
                yield
        finally:
            self.start = time.perf_counter()

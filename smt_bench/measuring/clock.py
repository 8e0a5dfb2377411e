"""Times of small pieces of code, all in turns.

On a GPU single calls are shorter than the launch and the clock's grain: there every reading holds many calls between two events,
with the cache emptied before each (`triton.testing.do_bench`, or the same here where there is no triton).
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

GPU_MS = 20.0  # milliseconds of calls behind a reading
CACHE = 256 << 20  # bytes that are written to empty a GPU's second-level cache; an H100 has 50 MB


def interleave(
    pieces: dict[str, Callable[[], Any]], rounds: int, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Milliseconds of every round of every piece, all pieces in turns, after one uncounted round.

    Args:
        pieces: what to time, by name.
        rounds: readings of each.
        device: where they run; a CPU unless it says otherwise.
    """
    read = on_gpu if device is not None and device.type == "cuda" else once
    taken: dict[str, list[float]] = {name: [] for name in pieces}
    for number in range(rounds + 1):
        for name, piece in pieces.items():
            found = read(piece)
            if number:
                taken[name].append(found)
    return taken


def once(piece: Callable[[], Any]) -> float:
    """Milliseconds of one call on the CPU."""
    start = time.perf_counter()
    piece()
    return 1e3 * (time.perf_counter() - start)


def on_gpu(piece: Callable[[], Any]) -> float:
    """Milliseconds of a call on the GPU, the median of as many as fill `GPU_MS`, each with a cold cache."""
    if importlib.util.find_spec("triton") is not None:
        from triton.testing import do_bench

        return float(do_bench(piece, warmup=5, rep=int(GPU_MS), return_mode="median"))
    return _by_events(piece)


def _by_events(piece: Callable[[], Any]) -> float:
    cache = torch.empty(CACHE, dtype=torch.int8, device="cuda")

    def reading(calls: int) -> list[float]:
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
        for start, end in events:
            cache.zero_()
            start.record()
            piece()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in events]

    piece()
    first = statistics.median(reading(5))
    return statistics.median(reading(max(5, min(1000, round(GPU_MS / max(first, 1e-3))))))

"""Peaks by phase: each has its own, the whole is the highest; and what counts as too little memory."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest
import torch

from smt_bench.machine import memory

MB = 1 << 20


@pytest.mark.skipif(not memory._reset_process_peak(), reason="the process's peak cannot be reset here")
def test_every_phase_has_a_peak_of_its_own() -> None:
    found: dict[str, int] = {}
    memory.reset_peaks()
    phases = memory.Phases(found)
    phases.end("before")
    with mmap.mmap(-1, 200 * MB) as held:  # of its own: an array may be made of memory that the process holds already
        held.write(b"\1" * (200 * MB))  # touched, so that it is there
        phases.end("large")
    phases.end("between")  # begins with all of it
    phases.end("after")
    assert found["large_process_peak"] - found["before_process_peak"] > 150 * MB
    assert found["large_process_peak"] - found["after_process_peak"] > 150 * MB
    assert memory.peak_memory()["process_peak_since_start"] >= found["large_process_peak"]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_what_a_phase_has_freed_is_not_counted_in_the_next() -> None:
    """glibc keeps freed pieces below one that is still in use: 200 MB that a later run's peak would count."""
    memory.reset_peaks()
    phases = memory.Phases({})
    pieces = [bytearray(b"\1" * 100_000) for _ in range(2000)]
    top = bytearray(b"\1" * 100_000)
    phases.end("large")
    before = resident()
    pieces.clear()
    phases.end("freed")
    assert before - resident() > 150 * MB and top


def resident() -> int:
    """Bytes of this process that are in memory now."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * mmap.PAGESIZE


def test_gpus_are_reset_between_phases_and_the_record_has_the_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"peak": 0}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda i: now["peak"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda i: now.update(peak=10))
    memory.reset_peaks()
    found: dict[str, int] = {}
    phases = memory.Phases(found)
    for phase, peak in (("load", 300), ("tuning", 900), ("evaluation", 400)):
        now["peak"] = peak
        phases.end(phase)
    assert [found[f"{p}_gpu0_peak"] for p in ("load", "tuning", "evaluation")] == [300, 900, 400]
    assert memory.peak_memory()["gpu0_peak"] == 900
    memory.reset_peaks()
    assert memory.peak_memory()["gpu0_peak"] == 10  # another record


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_errors_that_say_that_memory_was_too_small(error: Exception, is_it: bool) -> None:
    assert memory.exhausted(error) is is_it

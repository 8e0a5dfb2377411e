"""What memory a process and its GPUs took at most, phase by phase; and whether an error means that there was too little.

The GPUs' allocators count peaks that can be reset. So does Linux for a process (`/proc/self/clear_refs`); where it does not, only
the peak since the process's start is known, and no phase has one.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import traceback
from pathlib import Path

import torch

# torch's CPU allocator, and libraries that CUDA's memory is asked for by, have no exception of their own.
_SIGNS = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_highest: dict[str, int] = {}  # peaks of the record under way, over its phases
_process_highest = 0


def reset_peaks() -> None:
    """Starts every peak anew, for a record."""
    gc.collect()
    end_phase()
    _highest.clear()


def end_phase() -> dict[str, int]:
    """Peak bytes since the last phase ended, by device ("gpu0_peak", "process_peak"); the next phase starts here."""
    global _process_highest
    found = _gpu_peaks()
    process = _process_peak()
    _process_highest = max(_process_highest, process)
    for i in range(torch.cuda.device_count()):
        torch.cuda.reset_peak_memory_stats(i)
    give_back()
    if _reset_process_peak():
        found["process_peak"] = process
    for name, peak in found.items():
        _highest[name] = max(peak, _highest.get(name, 0))
    return found


def peak_memory() -> dict[str, int]:
    """Peak bytes: of every GPU's allocator since `reset_peaks`; of this process since its start, earlier runs included."""
    peaks = {"process_peak_since_start": max(_process_highest, _process_peak())}
    for name, peak in _gpu_peaks().items():
        peaks[name] = max(peak, _highest.get(name, 0))
    return peaks


class Phases:
    """Peaks by phase, written into a record's `memory_bytes` as "<phase>_<device>_peak".

    Args:
        into: where they go; a phase that comes again keeps its highest.
    """

    def __init__(self, into: dict[str, int]) -> None:
        self.into = into
        end_phase()

    def end(self, phase: str) -> None:
        """What was allocated since the last phase ended belongs to this one."""
        for device, peak in end_phase().items():
            name = f"{phase}_{device}"
            self.into[name] = max(peak, self.into.get(name, 0))


def exhausted(error: BaseException) -> bool:
    """Whether an error says that memory was too small, of a device or the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(sign in str(error) for sign in _SIGNS)


def release(error: BaseException | None = None) -> None:
    """Gives back what nothing holds any more, and what the frames of an error hold."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    give_back()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def give_back() -> None:
    """Main memory that nothing holds goes back to the system.

    glibc keeps what was freed, gigabytes after a training run: the next run's peak would count it, and several processes on one
    machine would lack it.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


def _gpu_peaks() -> dict[str, int]:
    return {f"gpu{i}_peak": torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())}


def _process_peak() -> int:
    """Bytes of main memory at most, since the last reset or the start."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reset_process_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True

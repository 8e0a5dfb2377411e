"""Where and with what a run was made: recorded, never keyed."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from smt_bench.machine import determinism

PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "lm-eval", "tokenizers", "numpy", "deepspeed")
QUANTIZES = "bitsandbytes"  # named in the records of runs over a base of 4 bits alone


ROOT = Path(__file__).resolve().parents[2]  # of a checkout


@cache
def describe() -> dict[str, Any]:
    """Commit, package versions and hardware."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "smt_bench": version_of("smt-bench"),
        **_git(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus,
    }


def numerics() -> dict[str, Any]:
    """What decides the last bits of a sum, here and now: threads, float32 products, kernels; whether they come again."""
    kernels = ("flash", "mem_efficient", "cudnn", "math")
    return {
        "threads": torch.get_num_threads(),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "attention_kernels": [name for name in kernels if getattr(torch.backends.cuda, f"{name}_sdp_enabled")()],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cublas_workspace": os.environ.get(determinism.WORKSPACE),
        "repeatable": determinism.repeatable(torch.cuda.is_available()),
    }


def one_line() -> str:
    """The hardware that a time was measured on, in one line."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(gpus) if gpus else f"{_cpu()}, {torch.get_num_threads()} threads"


def free_memory() -> int | None:
    """Bytes that the fullest GPU has left for this process, what the allocator holds unused included; None without one."""
    left = []
    for i in range(torch.cuda.device_count()):
        unused = torch.cuda.memory_reserved(i) - torch.cuda.memory_allocated(i)
        if torch.cuda.memory_allocated(i):  # one that the run uses
            left.append(torch.cuda.mem_get_info(i)[0] + unused)
    return min(left, default=None)


def version_of(package: str) -> str | None:
    """The version of an installed package; None where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> dict[str, Any]:
    def ask(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = ask("rev-parse", "HEAD") if (ROOT / ".git").exists() else None
    # Only code can make a difference: results written by this very sweep do not make the tree dirty.
    changed = ask("status", "--porcelain", "--", "smt_bench", "methods", "experiments") if commit else None
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def cache_folder() -> Path:
    """Where `fetch` puts things: SMT_BENCH_CACHE, or smt_bench in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "smt_bench"
    return Path(os.environ.get("SMT_BENCH_CACHE", default))

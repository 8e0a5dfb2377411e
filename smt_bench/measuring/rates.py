"""What a device reaches: products of large dense matrices, and copies larger than any cache."""

from __future__ import annotations

from typing import Any

import torch

from smt_bench.measuring.contestant import now

TIMES = 5
LONG = 1.0  # seconds of products: in bf16 on a CPU that has none, each takes as long
SIDES = {"cpu": 1024, "cuda": 8192}
BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}


def fastest(work: Any, times: int = TIMES, most: float = float("inf")) -> float:
    """Seconds of the fastest of some repetitions, after one to warm up; none is begun after `most` seconds of them."""
    best, spent = float("inf"), 0.0
    for number in range(times + 1):
        start = now()
        work()
        taken = now() - start
        if number:
            best, spent = min(best, taken), spent + taken
        if spent > most:
            break
    return best


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """FLOP/s of a square product."""
    n = side or SIDES[device.type]
    a = torch.randn(n, n, device=device).to(dtype)
    return 2 * n**3 / fastest(lambda: a @ a, most=LONG)


def copy_rate(device: torch.device, size: int | None = None) -> float:
    """Bytes/s, read and written, of a copy."""
    wanted = size or BYTES[device.type]
    if device.type == "cuda":
        wanted = min(wanted, torch.cuda.mem_get_info(device)[0] // 4)
    source = torch.zeros(wanted // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / fastest(lambda: target.copy_(source))


def rates(device: torch.device) -> dict[str, float]:
    """FLOP/s of bf16 and fp32 products, bytes/s of a copy."""
    with torch.no_grad():
        return {
            "bf16": matrix_rate(device, torch.bfloat16),
            "fp32": matrix_rate(device, torch.float32),
            "bandwidth": copy_rate(device),
        }

"""`--deterministic`: what makes a GPU add up in one order, so that repeats and resumed runs are the same bit by bit.

CPUs are so by themselves, with the same number of threads. It changes no question, only the last bits of its answer, so that keys
say nothing of it; every record says what was set (`facts.numerics`). Not tried on a GPU.

    algorithms        those without atomic additions; an operation that has none of the kind ends the run with its name
    cuBLAS            workspaces of a fixed size, so that products are split in the same way
    attention         the flash kernel, whose backward pass then keeps an order, or plain products; never the two others
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # read when the first product is made


def switch_on() -> None:
    """For the whole process, before anything is computed on a GPU."""
    os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # finds bugs, takes time
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


@contextlib.contextmanager
def switched_on() -> Iterator[None]:
    """`switch_on` for a block, for what is measured after it. cuBLAS reads its variable once: set it before a GPU is used."""
    algorithms, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    fills, picks = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn.benchmark  # type: ignore[attr-defined]
    efficient, cudnn = torch.backends.cuda.mem_efficient_sdp_enabled(), torch.backends.cuda.cudnn_sdp_enabled()
    switch_on()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = picks
        torch.backends.cuda.enable_mem_efficient_sdp(efficient)
        torch.backends.cuda.enable_cudnn_sdp(cudnn)


def repeatable(gpu: bool) -> str:
    """What a record says of its own bits.

    Args:
        gpu: whether it was computed on one.
    """
    return "not bitwise repeatable" if gpu and not torch.are_deterministic_algorithms_enabled() else "bit by bit"

"""Triton kernels with a plain way beside each: one fixed rule which is taken, and a record of where it had to be left.

The rule: Triton on GPUs of compute capability 8 or newer, nowhere else. Nothing is timed and nothing drawn at random, so that
every process, and a run that goes on, takes the same way. A kernel that fails, or whose numbers are wrong when it is tried before
training, is left for the plain way for as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

CAPABILITY = (8, 0)  # A100 and newer: bf16 tensor cores

left: dict[str, str] = {}  # kernel -> why it is no longer used in this process


def fits(device: torch.device) -> bool:
    """Whether the rule says Triton."""
    return device.type == "cuda" and _capable(device) and _installed()


def used(name: str, device: torch.device) -> bool:
    """Whether a kernel is to be used: by the rule, and because it has not failed."""
    return name not in left and fits(device)


def guarded(name: str, kernel: Callable[[], Any], plain: Callable[[], Any]) -> Any:
    """What the kernel gives; where it fails, what the plain way gives, then and from then on.

    Raises:
        torch.OutOfMemoryError: the kernel's; another way would need as much.
    """
    if name not in left:
        try:
            return kernel()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers and drivers fail in many ways
            leave(name, error)
    return plain()


def leave(name: str, why: Exception | str) -> None:
    """Gives a kernel up, for a reason that goes into the record."""
    text = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
    left[name] = (text.strip().splitlines() or ["no reason given"])[0][:200]


@contextmanager
def set_aside(*names: str) -> Iterator[None]:
    """Within, the plain ways are taken in these kernels' place."""
    before = dict(left)
    left.update(dict.fromkeys(names, "set aside"))
    try:
        yield
    finally:
        left.clear()
        left.update(before)


@cache
def _capable(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= CAPABILITY


@cache
def _installed() -> bool:
    return find_spec("triton") is not None

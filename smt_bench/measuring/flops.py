"""Floating-point operations of a piece of code, by torch's own counter, with the CPU's attention kernels included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# torch's counter is imported where something is counted: it brings Triton, 70 MB that tables have no use for.

Shape = tuple[int, ...]


def _attention(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    from torch.utils.flop_counter import sdpa_flop_count

    return int(sdpa_flop_count(q, k, v))


def _attention_backward(grad: Shape, q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    from torch.utils.flop_counter import sdpa_backward_flop_count

    return int(sdpa_backward_flop_count(grad, q, k, v))


# By shapes; torch 2.13 knows the GPUs' attention kernels only; those of the CPU would count as nothing.
CPU_ATTENTION: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@contextmanager
def count_flops() -> Iterator[Callable[[], int]]:
    """Counts what matrix products and attention inside the block need; yields a function that tells how many so far."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        yield counter.get_total_flops

"""Floating-point operations of a piece of code, by torch's own counter, with experts and the CPU's attention kernels included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from smt_bench.methods import sampled  # noqa: F401 - registers its operation

# torch's counter is imported where something is counted: it brings Triton, 70 MB that tables have no use for.

Shape = tuple[int, ...]


def _attention(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    from torch.utils.flop_counter import sdpa_flop_count

    return int(sdpa_flop_count(q, k, v))


def _attention_backward(grad: Shape, q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    from torch.utils.flop_counter import sdpa_backward_flop_count

    return int(sdpa_backward_flop_count(grad, q, k, v))


def _grouped(a: Shape, b: Shape, *_: Any, **__: Any) -> int:
    """One product per expert. Rows (T, K) by (G, K, N): each row meets one of the G; (K, T) by (T, N): G sums over parts of T."""
    if len(a) == len(b) == 3:
        return 2 * a[0] * a[1] * a[2] * b[2]
    return 2 * a[-2] * a[-1] * b[-1]


def _sampled(a: Shape, b: Shape, rows: Shape, columns: Shape, *_: Any, **__: Any) -> int:
    return 2 * a[1] * columns[0]


# By shapes; of torch 2.13 the products of experts would count as nothing, and so would the CPU's attention kernels.
UNKNOWN: dict[Any, Any] = {
    torch.ops.aten._grouped_mm: _grouped,
    torch.ops.smt_bench.sampled_product: _sampled,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@contextmanager
def count_flops() -> Iterator[Callable[[], int]]:
    """Counts what matrix products and attention inside the block need; yields a function that tells how many so far."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False, custom_mapping=UNKNOWN) as counter:
        yield counter.get_total_flops

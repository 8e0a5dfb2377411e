"""One Triton kernel: the deltas of all layers of a device into their weights, over a table of addresses.

Program (m, i) writes a piece of layer m: weight[indices] = base + deltas, rounded to the weight's type as
`SpielLinear.write_back` does. Written for GPUs of compute capability 8 and newer, and never run on one: compiled for sm_80 and
sm_90, numbers checked in Triton's interpreter (`TRITON_INTERPRET=1`) on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32, torch.float64: tl.float64}
PIECE = 1024


@triton.jit  # type: ignore[untyped-decorator]
def _write_kernel(table, deltas, indices, base, TYPE: tl.constexpr, PIECE: tl.constexpr):  # type: ignore[no-untyped-def]
    m = tl.program_id(0)
    weight, count = tl.load(table + 4 * m), tl.load(table + 4 * m + 1)
    delta_start, start = tl.load(table + 4 * m + 2), tl.load(table + 4 * m + 3)
    at = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    inside = at < count
    delta = tl.load(deltas + delta_start + at, mask=inside)
    value = tl.load(base + start + at, mask=inside).to(delta.dtype) + delta
    place = tl.load(indices + start + at, mask=inside).to(tl.int64)
    tl.store(weight.to(tl.pointer_type(TYPE)) + place, value.to(TYPE), mask=inside)


def write_back(
    table_M4: torch.Tensor, deltas: torch.Tensor, indices: torch.Tensor, base: torch.Tensor, largest: int
) -> None:
    """Writes the deltas of M layers.

    Args:
        table_M4: per layer the address of its weight, how many deltas it has, where they begin in `deltas`, and where its indices
            and pretrained values begin; int64.
        deltas: of all layers.
        indices: the first layer's, followed in memory by the others'.
        base: their pretrained values, likewise; of the weights' type.
        largest: deltas of the layer with the most.
    """
    grid: Any = (len(table_M4), triton.cdiv(largest, PIECE))
    with torch.cuda.device_of(deltas):
        _write_kernel[grid](table_M4, deltas, indices, base, TYPE=TYPES[base.dtype], PIECE=PIECE)

"""Two Triton kernels: the deltas of all layers of a device into their weights, and a layer's gradient at its deltas alone.

`write_back`: one launch a device, over a table of addresses. Program (m, i) writes a piece of layer m: weight[indices] =
base + deltas, rounded to the weight's type as `SpielLinear.write_back` does.

`products_at`: one launch a layer. Program i takes some deltas, loops over the tokens, and sums in float32 the products of the
two columns that meet at each (appendix E, equation 16). Both columns lie side by side in memory, since they come transposed.

Written for GPUs of compute capability 8 and newer, and never run on one: compiled for sm_80 and sm_90, numbers checked in
Triton's interpreter (`TRITON_INTERPRET=1`) on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32, torch.float64: tl.float64}
PIECE = 1024
PLACES, TOKENS = 32, 128  # of a program of `products_at`, and of a step of its loop


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


@triton.jit  # type: ignore[untyped-decorator]
def _products_kernel(  # type: ignore[no-untyped-def]
    dy, x, places, out, count, tokens, width, SUM: tl.constexpr, PLACES: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    d = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    inside = d < count
    place = tl.load(places + d, mask=inside, other=0).to(tl.int64)
    rows, columns = place // width, place % width
    total = tl.zeros((PLACES,), dtype=SUM)
    for start in range(0, tokens, TOKENS):
        t = start + tl.arange(0, TOKENS)
        here = inside[:, None] & (t < tokens)[None, :]
        a = tl.load(dy + rows[:, None] * tokens + t[None, :], mask=here, other=0.0).to(SUM)
        b = tl.load(x + columns[:, None] * tokens + t[None, :], mask=here, other=0.0).to(SUM)
        total += tl.sum(a * b, axis=1)
    tl.store(out + d, total, mask=inside)


def products_at(dy_OT: torch.Tensor, x_IT: torch.Tensor, places_D: torch.Tensor, out_D: torch.Tensor) -> torch.Tensor:
    """Fills `out_D` with (dY Xᵀ) at the places; see `methods.sampled`.

    Args:
        dy_OT: contiguous.
        x_IT: contiguous, of the same type.
        places_D: positions in the flattened (O, I) product, any order.
        out_D: float32 or more precise.
    """
    grid: Any = (triton.cdiv(len(places_D), PLACES),)
    with torch.cuda.device_of(out_D):
        _products_kernel[grid](
            dy_OT, x_IT, places_D, out_D, len(places_D), dy_OT.shape[1], len(x_IT),
            SUM=TYPES[out_D.dtype], PLACES=PLACES, TOKENS=TOKENS,
        )  # fmt: skip
    return out_D

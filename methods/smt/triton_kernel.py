"""All block gradients of a layer in one Triton kernel: no gathered copies, one launch.

Program (n, i, j) computes one tile of block n, looping over the tokens; sums are in float32. Written for any GPU that Triton
supports, never run on one: its numbers were checked in Triton's interpreter (`TRITON_INTERPRET=1`) on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

TOKENS = 32  # per step of the loop
SMALLEST = 16  # of what `tl.dot` takes


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]  # Triton reads the annotations
    dy, kept, pairs, out, tokens, dy_stride, kept_stride,
    SIDE: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    n, i, j = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, column = tl.load(pairs + 2 * n), tl.load(pairs + 2 * n + 1)
    rows = i * TILE + tl.arange(0, TILE)
    columns = j * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE, TILE), dtype=tl.float32)
    for start in range(0, tokens, STEP):
        t = start + tl.arange(0, STEP)
        here = t < tokens
        inside_rows = here[:, None] & (rows < SIDE)[None, :]
        inside_columns = here[:, None] & (columns < SIDE)[None, :]
        # 64-bit offsets: tokens x width can pass 2^31.
        at = t.to(tl.int64)[:, None]
        a = tl.load(dy + at * dy_stride + (row * SIDE + rows)[None, :], mask=inside_rows, other=0.0)
        b = tl.load(kept + at * kept_stride + (column * SIDE + columns)[None, :], mask=inside_columns, other=0.0)
        total = tl.dot(tl.trans(a), b, total, input_precision="ieee" if EXACT else "tf32")
    where = out + n.to(tl.int64) * SIDE * SIDE + rows[:, None] * SIDE + columns[None, :]
    inside = (rows < SIDE)[:, None] & (columns < SIDE)[None, :]
    tl.store(where, total.to(out.dtype.element_ty), mask=inside)


def block_gradients(
    dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Sequence[tuple[int, int]], side: int
) -> torch.Tensor:
    """(N, l, l) in the dtype of `dy_TO`; see `gradients.py`.

    Args:
        dy_TO: gradient of the layer's output, float32 or lower.
        kept_TC: kept input columns.
        pairs: (row of blocks, position of the column of blocks) per block.
        side: l.
    """
    dy_TO, kept_TC = dy_TO.contiguous(), kept_TC.contiguous()
    out_Nll = dy_TO.new_empty(len(pairs), side, side)
    index = torch.tensor(pairs, dtype=torch.int32, device=dy_TO.device)
    tile = max(SMALLEST, min(64, triton.next_power_of_2(side)))
    tiles = triton.cdiv(side, tile)
    _kernel[(len(pairs), tiles, tiles)](
        dy_TO, kept_TC, index, out_Nll, dy_TO.shape[0], dy_TO.stride(0), kept_TC.stride(0),
        SIDE=side, TILE=tile, STEP=TOKENS, EXACT=not torch.backends.cuda.matmul.allow_tf32,
    )  # fmt: skip
    return out_Nll

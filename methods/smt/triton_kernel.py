"""Two Triton kernels: the gradients of all blocks of a layer, and all blocks of a model back into its weights.

`block_gradients`: no gathered copies, one launch a layer. Program (n, i, j) computes one tile of block n, looping over the
tokens; sums are in float32, and come out so. Layers are not joined: all output gradients would have to be kept until the last.

`write_back`: one launch a model, over a table of addresses. Program (n, i) copies a piece of block n to where it belongs.

Written for GPUs of compute capability 8 and newer, and never run on one: compiled for sm_80 and sm_90, numbers checked in
Triton's interpreter (`TRITON_INTERPRET=1`) on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

TOKENS = 32  # per step of the loop
SMALLEST = 16  # of what `tl.dot` takes
PIECE = 1024  # numbers that a program of `write_back` copies

TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32, torch.float64: tl.float64}


@triton.jit  # type: ignore[untyped-decorator]
def _gradients_kernel(  # type: ignore[no-untyped-def]  # Triton reads the annotations
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
    tl.store(where, total, mask=inside)


def block_gradients(
    dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs_N2: torch.Tensor, side: int, out_Nll: torch.Tensor
) -> torch.Tensor:
    """Fills `out_Nll`; see `gradients.py`.

    Args:
        dy_TO: gradient of the layer's output, float32 or lower.
        kept_TC: kept input columns, of the same type.
        pairs_N2: (row of blocks, position of the column of blocks) per block, int32, on the device.
        side: l.
        out_Nll: float32.
    """
    dy_TO, kept_TC = dy_TO.contiguous(), kept_TC.contiguous()
    tile = max(SMALLEST, min(64, triton.next_power_of_2(side)))
    tiles = triton.cdiv(side, tile)
    with torch.cuda.device_of(out_Nll):  # Triton launches on the current device, wherever the tensors are
        _gradients_kernel[(len(pairs_N2), tiles, tiles)](
            dy_TO, kept_TC, pairs_N2, out_Nll, dy_TO.shape[0], dy_TO.stride(0), kept_TC.stride(0),
            SIDE=side, TILE=tile, STEP=TOKENS, EXACT=not torch.backends.cuda.matmul.allow_tf32,
        )  # fmt: skip
    return out_Nll


@triton.jit  # type: ignore[untyped-decorator]
def _write_kernel(  # type: ignore[no-untyped-def]
    blocks, table, SIZE: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr, PIECE: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0)
    corner, stride, source = tl.load(table + 3 * n), tl.load(table + 3 * n + 1), tl.load(table + 3 * n + 2)
    at = tl.program_id(1) * PIECE + tl.arange(0, PIECE)
    inside = at < SIZE
    value = tl.load(blocks + source * SIZE + at, mask=inside)
    place = (at // WIDTH).to(tl.int64) * stride + at % WIDTH
    tl.store(corner.to(tl.pointer_type(TYPE)) + place, value.to(TYPE), mask=inside)


def write_back(blocks_Mhw: torch.Tensor, table_N3: torch.Tensor, dtype: torch.dtype) -> None:
    """Puts N of M blocks into their weights.

    Args:
        blocks_Mhw: their values, contiguous.
        table_N3: per block the address of its corner in the weight's memory, how far apart the weight's rows are in numbers, and
            which of the M it is; int64.
        dtype: of the weights.
    """
    _, height, width = blocks_Mhw.shape
    size = height * width
    grid: Any = (len(table_N3), triton.cdiv(size, PIECE))
    with torch.cuda.device_of(blocks_Mhw):
        _write_kernel[grid](blocks_Mhw, table_N3, SIZE=size, WIDTH=width, TYPE=TYPES[dtype], PIECE=PIECE)

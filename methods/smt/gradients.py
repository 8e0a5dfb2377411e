"""The gradient of chosen blocks: three ways to the same numbers, and which one is used where.

    dW[block n] = dY[:, rows of n]ᵀ · X[:, columns of n]

- `per_block`: one matrix product per block, straight into the result. On a CPU it needs 1.3 times its share of the dense
  gradient's time at side 256 and 2.2 to 3.0 times at side 64, all blocks of a column together 1.2 and 2.4 to 2.7, a batched
  product 1.6 and 3.1 to 4.1 (768 x 768; `run kernels --model bench-60m`); the more blocks, the more it leads.
- `batched`: one batched product of gathered copies; few launches, but it copies rows and columns for every block.
- `fused`: one Triton kernel that reads both where they are (`triton_kernel.py`).

Channels are strips h x 1 (`channel_gradients`): one matrix product for all strips of a row of them.

On a GPU the fastest is found by measuring once per shape. None of this has run on a GPU; `fused` was checked in Triton's
interpreter.

Shape legend: T tokens, O outputs, C kept columns of blocks, N blocks of side l.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch

Pairs = Sequence[tuple[int, int]]  # (row of blocks in dY, position among the kept columns) of every block
Way = Callable[[torch.Tensor, torch.Tensor, Pairs, int], torch.Tensor]


def per_block(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs, side: int) -> torch.Tensor:
    """(N, l, l), block after block."""
    out_Nll = dy_TO.new_empty(len(pairs), side, side)
    for n, (row, column) in enumerate(pairs):
        dy_Tl = dy_TO[:, row * side : (row + 1) * side]
        torch.mm(dy_Tl.t(), kept_TC[:, column * side : (column + 1) * side], out=out_Nll[n])
    return out_Nll


def batched(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs, side: int) -> torch.Tensor:
    """(N, l, l), as one batched product."""
    rows, columns = torch.tensor(pairs, device=dy_TO.device).unbind(1)
    dy_NlT = dy_TO.unflatten(1, (-1, side)).permute(1, 2, 0)[rows]
    kept_NTl = kept_TC.unflatten(1, (-1, side)).transpose(0, 1)[columns]
    return torch.bmm(dy_NlT, kept_NTl)


def fused(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs, side: int) -> torch.Tensor:
    """(N, l, l), by one Triton kernel; needs the triton package, which torch's CUDA builds bring along."""
    from smt_bench.methods.smt.triton_kernel import block_gradients

    return block_gradients(dy_TO, kept_TC, pairs, side)


WAYS: dict[str, Way] = {"per_block": per_block, "batched": batched, "fused": fused}


def channel_gradients(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs, height: int) -> torch.Tensor:
    """(N, h, 1), of strips one number wide: one matrix product per row of strips."""
    out_Nh1 = dy_TO.new_empty(len(pairs), height, 1)
    rows: dict[int, list[int]] = {}
    for n, (row, _) in enumerate(pairs):
        rows.setdefault(row, []).append(n)
    for row, own in rows.items():
        columns = torch.tensor([pairs[n][1] for n in own], device=dy_TO.device)
        strips = kept_TC.index_select(1, columns).t() @ dy_TO[:, row * height : (row + 1) * height]
        out_Nh1[torch.tensor(own, device=dy_TO.device)] = strips.unsqueeze(-1)
    return out_Nh1


def gradients_of(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs, shape: tuple[int, int]) -> torch.Tensor:
    """(N, *shape): square blocks, or strips of channels."""
    height, width = shape
    if height != width:
        assert width == 1
        return channel_gradients(dy_TO, kept_TC, pairs, height)
    return block_gradients(dy_TO, kept_TC, pairs, height)


def block_gradients(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs, side: int) -> torch.Tensor:
    """(N, l, l) in the dtype of `dy_TO`, by the fastest way for the device."""
    if not dy_TO.is_cuda:
        return per_block(dy_TO, kept_TC, pairs, side)
    tokens = 1 << (dy_TO.shape[0] - 1).bit_length()  # rounded up: batches differ in length by a little all the time
    name = _fastest(dy_TO.device, dy_TO.dtype, (tokens, dy_TO.shape[1]), kept_TC.shape[1], tuple(pairs), side)
    return WAYS[name](dy_TO, kept_TC, pairs, side)


@cache
def _fastest(
    device: torch.device, dtype: torch.dtype, dy_shape: tuple[int, int], width: int, pairs: Pairs, side: int
) -> str:
    """The way with the shortest time on random inputs of these shapes; measured once, on the device's own clock."""
    dy_TO = torch.randn(dy_shape, device=device, dtype=dtype)
    kept_TC = torch.randn(dy_shape[0], width, device=device, dtype=dtype)
    times: dict[str, float] = {}
    for name, way in WAYS.items():
        if name == "fused" and not _has_triton():
            continue
        for _ in range(2):
            way(dy_TO, kept_TC, pairs, side)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(5):
            way(dy_TO, kept_TC, pairs, side)
        end.record()
        end.synchronize()
        times[name] = start.elapsed_time(end)
    return min(times, key=lambda name: times[name])


@cache
def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None

"""The gradient of chosen blocks: three ways to the same numbers, and which one is used where.

    dW[block n] = dY[:, rows of n]ᵀ · X[:, columns of n],   float32 or more precise, whatever dY and X are

- `per_block`: one matrix product per block, straight into the result. On a CPU it needs 1.3 times its share of the dense
  gradient's time at side 256 and 2.2 to 3.0 times at side 64, all blocks of a column together 1.2 and 2.4 to 2.7, a batched
  product 1.6 and 3.1 to 4.1 (768 x 768; `run kernels --model bench-60m`); the more blocks, the more it leads.
- `batched`: one batched product of gathered copies; few launches, but it copies rows and columns for every block.
- `fused`: one Triton kernel that reads both where they are (`triton_kernel.py`).

The rule: `fused` for bf16 and fp16 on a GPU of compute capability 8 or newer (`guarded`), else `per_block`; `kernels` times all.
Channels are strips h x 1 (`channel_gradients`): one matrix product for all strips of a row of them. Whole rows are strips 1 x I
(`row_gradients`): one product for all. None of this has run on a GPU; `fused` was checked in Triton's interpreter.

Shape legend: T tokens, O outputs, C kept columns of blocks, N blocks of side l.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property

import torch

from smt_bench.methods import guarded
from smt_bench.methods.products import HALVES, product, wide

FUSED = "SMT block gradients"  # the kernel's name in records


class Pairs:
    """Where the blocks of a layer are: in Python, and on the device, where they go once and not in every step.

    Args:
        pairs: (row of blocks in dY, position among the kept columns) of every block.
        device: the layer's.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]], device: torch.device) -> None:
        self.pairs, self.device = list(pairs), device

    @classmethod
    def of(cls, pairs: Pairs | Sequence[tuple[int, int]], device: torch.device) -> Pairs:
        """The same, for whoever has them in Python only."""
        return pairs if isinstance(pairs, Pairs) else cls(pairs, device)

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def index_N2(self) -> torch.Tensor:
        """All pairs, int32, on the device."""
        return torch.tensor(self.pairs, dtype=torch.int32, device=self.device).reshape(-1, 2)

    @cached_property
    def strips(self) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        """By row of blocks: the row, which blocks lie in it and in which columns, on the device."""
        rows: dict[int, list[int]] = {}
        for n, (row, _) in enumerate(self.pairs):
            rows.setdefault(row, []).append(n)
        return [
            (row, self._on_device(own), self._on_device([self.pairs[n][1] for n in own])) for row, own in rows.items()
        ]

    def _on_device(self, numbers: list[int]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.device)


Way = Callable[[torch.Tensor, torch.Tensor, "Pairs | Sequence[tuple[int, int]]", int], torch.Tensor]


def per_block(
    dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs | Sequence[tuple[int, int]], side: int
) -> torch.Tensor:
    """(N, l, l), block after block."""
    where = Pairs.of(pairs, dy_TO.device)
    out_Nll = dy_TO.new_empty(len(where), side, side, dtype=wide(dy_TO.dtype))
    if dy_TO.device.type == "cpu" and dy_TO.dtype in HALVES:  # once, and not for every block
        dy_TO, kept_TC = dy_TO.float(), kept_TC.float()
    for n, (row, column) in enumerate(where.pairs):
        dy_Tl = dy_TO[:, row * side : (row + 1) * side]
        product(dy_Tl.t(), kept_TC[:, column * side : (column + 1) * side], out=out_Nll[n])
    return out_Nll


def batched(
    dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs | Sequence[tuple[int, int]], side: int
) -> torch.Tensor:
    """(N, l, l), as one batched product; of halves rounded to them on the way."""
    rows, columns = Pairs.of(pairs, dy_TO.device).index_N2.long().unbind(1)
    dy_NlT = dy_TO.unflatten(1, (-1, side)).permute(1, 2, 0)[rows]
    kept_NTl = kept_TC.unflatten(1, (-1, side)).transpose(0, 1)[columns]
    return torch.bmm(dy_NlT, kept_NTl).to(wide(dy_TO.dtype))


def fused(
    dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs | Sequence[tuple[int, int]], side: int
) -> torch.Tensor:
    """(N, l, l), by one Triton kernel; needs the triton package, which torch's CUDA builds bring along."""
    from smt_bench.methods.smt.triton_kernel import block_gradients

    index_N2 = Pairs.of(pairs, dy_TO.device).index_N2
    out_Nll = dy_TO.new_empty(len(index_N2), side, side, dtype=torch.float32)
    return block_gradients(dy_TO, kept_TC, index_N2, side, out_Nll)


WAYS: dict[str, Way] = {"per_block": per_block, "batched": batched, "fused": fused}


def channel_gradients(
    dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs | Sequence[tuple[int, int]], height: int
) -> torch.Tensor:
    """(N, h, 1), of strips one number wide: one matrix product per row of strips."""
    where = Pairs.of(pairs, dy_TO.device)
    out_Nh1 = dy_TO.new_empty(len(where), height, 1, dtype=wide(dy_TO.dtype))
    for row, own, columns in where.strips:
        strips = product(kept_TC.index_select(1, columns).t(), dy_TO[:, row * height : (row + 1) * height])
        out_Nh1[own] = strips.unsqueeze(-1)
    return out_Nh1


def row_gradients(dy_TO: torch.Tensor, kept_TI: torch.Tensor, pairs: Pairs | Sequence[tuple[int, int]]) -> torch.Tensor:
    """(N, 1, I), of whole rows."""
    rows_N = Pairs.of(pairs, dy_TO.device).index_N2[:, 0]
    return product(dy_TO.index_select(1, rows_N).t(), kept_TI).unsqueeze(1)


def gradients_of(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs, shape: tuple[int, int]) -> torch.Tensor:
    """(N, *shape): square blocks, strips of channels, or whole rows."""
    height, width = shape
    if height != width:
        if width != 1:
            assert height == 1 and width == kept_TC.shape[1]
            return row_gradients(dy_TO, kept_TC, pairs)
        return channel_gradients(dy_TO, kept_TC, pairs, height)
    return block_gradients(dy_TO, kept_TC, pairs, height)


def way(device: torch.device, dtype: torch.dtype) -> str:
    """Which way a layer's gradients go: the rule, and nothing else."""
    return "fused" if dtype in HALVES and guarded.used(FUSED, device) else "per_block"


def block_gradients(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Pairs, side: int) -> torch.Tensor:
    """(N, l, l), float32 or more precise, by the way that the rule names."""
    if way(dy_TO.device, dy_TO.dtype) == "per_block":
        return per_block(dy_TO, kept_TC, pairs, side)
    found: torch.Tensor = guarded.guarded(
        FUSED, lambda: fused(dy_TO, kept_TC, pairs, side), lambda: per_block(dy_TO, kept_TC, pairs, side)
    )
    return found


@cache
def tried(device: torch.device, dtype: torch.dtype, side: int) -> None:
    """Runs the kernel once, where the rule names it, on numbers whose sums are exact: it has to give the plain way's bits.

    Compiled before training, it cannot end a backward pass.
    """
    if way(device, dtype) == "per_block":
        return

    def some(width: int, period: int) -> torch.Tensor:
        numbers = torch.arange(72 * width, device=device).reshape(72, width)
        return (numbers % period - period // 2).to(dtype)

    dy_TO, kept_TC, pairs = some(2 * side, 7), some(2 * side, 5), Pairs([(0, 1), (1, 0), (1, 1)], device)
    plain = per_block(dy_TO, kept_TC, pairs, side)
    if not torch.equal(guarded.guarded(FUSED, lambda: fused(dy_TO, kept_TC, pairs, side), lambda: plain), plain):
        guarded.leave(FUSED, "its numbers were wrong when it was tried")

"""The sparse linear layer of SMT (section 3, equation 2): full forward pass, weight gradients for chosen blocks only.

    y = x Wᵀ + b,   dW[block (a, c)] = dY[:, a·l:(a+1)·l]ᵀ · X[:, c·l:(c+1)·l],   dX = dY W

Unlike the paper's snippets (figures 6 to 8) the forward pass keeps real copies of the distinct chosen input columns,
not views that hold the whole input, and the blocks are written into the dense weight once per optimizer step, not in
every forward pass.

Shape legend: T tokens, O outputs, I inputs, N blocks of side l, C distinct columns of blocks.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class BlockLinear(torch.autograd.Function):
    """`F.linear` whose weight gradient exists for the chosen blocks only."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        blocks_Nll: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        index: list[tuple[int, int]],
    ) -> torch.Tensor:
        """Computes (..., I) -> (..., O) and saves the chosen columns, T x C x l numbers.

        Args:
            ctx: autograd context.
            x: input of any leading shape.
            blocks_Nll: the trainable blocks; their values are already in `weight_OI`.
            weight_OI: dense weight.
            bias_O: bias or None.
            index: (row, column) per block, sorted by column.
        """
        ctx.index, ctx.side, ctx.block_dtype = index, blocks_Nll.shape[-1], blocks_Nll.dtype
        kept = x.new_empty(0)
        if ctx.needs_input_grad[1]:
            columns = sorted({column for _, column in index})
            x_TI = x.reshape(-1, x.shape[-1])
            if len(columns) * ctx.side == x_TI.shape[1]:
                kept = x_TI  # every column is needed: the input itself costs no copy
            else:
                picked = torch.tensor(columns, device=x.device)
                kept = x_TI.view(x_TI.shape[0], -1, ctx.side).index_select(1, picked).flatten(1)
        ctx.save_for_backward(kept, weight_OI)
        return F.linear(x, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """One matrix product per distinct column of blocks."""
        kept_TC, weight_OI = ctx.saved_tensors
        grad_x = grad_blocks = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y @ weight_OI
        if ctx.needs_input_grad[1]:
            side = ctx.side
            dy_TRl = grad_y.reshape(-1, grad_y.shape[-1] // side, side)
            parts = []
            for position, (_, group) in enumerate(groupby(ctx.index, key=lambda block: block[1])):
                rows = [row for row, _ in group]
                dy = dy_TRl[:, rows[0]] if len(rows) == 1 else dy_TRl[:, rows].flatten(1)
                x_Tl = kept_TC[:, position * side : (position + 1) * side]
                parts.append((dy.t() @ x_Tl).view(len(rows), side, side))
            grad_blocks = torch.cat(parts).to(ctx.block_dtype)
        return grad_x, grad_blocks, None, None, None


class SparseLinear(nn.Module):
    """A linear layer of which only chosen l x l blocks train.

    Args:
        linear: the layer it stands in for; weight and bias are shared, not copied.
        index: (row, column) of its blocks, sorted by column, then row.
        side: l.
    """

    def __init__(self, linear: nn.Linear, index: list[tuple[int, int]], side: int) -> None:
        super().__init__()
        self.index, self.side = index, side
        self.weight, self.bias = linear.weight, linear.bias
        # Half-precision weights train through float32 blocks: updates below their rounding step would be lost.
        dtype = torch.promote_types(linear.weight.dtype, torch.float32)
        self.blocks = nn.Parameter(self._view()[self._rows_cols()].to(dtype).contiguous())

    @property
    def in_features(self) -> int:
        """I, as `nn.Linear` has it."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """O, as `nn.Linear` has it."""
        return self.weight.shape[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) -> (..., O)."""
        return BlockLinear.apply(x, self.blocks, self.weight, self.bias, self.index)

    @torch.no_grad()
    def write_back(self) -> None:
        """Puts the trained blocks into the dense weight; once per optimizer step."""
        self._view()[self._rows_cols()] = self.blocks.to(self.weight.dtype)

    def dense(self) -> nn.Linear:
        """The plain layer with the update folded in; shares the weight."""
        self.write_back()
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        return linear

    def _view(self) -> torch.Tensor:
        # (R, C, l, l) onto the weight's own memory.
        o, i = self.weight.shape
        return self.weight.data.view(o // self.side, self.side, i // self.side, self.side).permute(0, 2, 1, 3)

    def _rows_cols(self) -> tuple[torch.Tensor, torch.Tensor]:
        pairs = torch.tensor(self.index, device=self.weight.device)
        return pairs[:, 0], pairs[:, 1]

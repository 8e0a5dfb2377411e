"""The sparse linear layer of SMT (section 3, equation 2): full forward pass, weight gradients for chosen blocks only.

    y = x Wᵀ + b,   dW[block (a, c)] = dY[:, a·l:(a+1)·l]ᵀ · X[:, c·l:(c+1)·l],   dX = dY W

Unlike the paper's snippets (figures 6 to 8) the forward pass keeps real copies of the distinct chosen input columns, not
views that hold the whole input; layers that read the same input (Q, K and V of an attention) share one copy; and the
blocks are written into the dense weight once per optimizer step, not in every forward pass. Strips of single channels are
blocks h high and 1 wide.

Shape legend: T tokens, O outputs, I inputs, N blocks, h x w (l x l but for channels), C distinct columns of blocks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from smt_bench.methods.nf4 import Nf4, whole, written_by
from smt_bench.methods.products import as_autocast
from smt_bench.methods.smt.gradients import Pairs, gradients_of, tried


class Shared:
    """What several layers keep of the one input they read, computed once per forward pass.

    Args:
        keep: from the input (..., I) to what is kept.
        readers: layers that will ask, each once per forward pass.
    """

    def __init__(self, keep: Callable[[torch.Tensor], torch.Tensor], readers: int) -> None:
        self.keep, self.readers = keep, readers
        self._left = 0
        self._input: weakref.ref[torch.Tensor] | None = None
        self._kept: torch.Tensor | None = None

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The kept part of `x`; forgotten here as soon as every reader has it, so that autograd alone holds it."""
        if self._input is None or self._input() is not x or self._kept is None:
            self._input, self._kept, self._left = weakref.ref(x), self.keep(x.detach()), self.readers
        kept = self._kept
        self._left -= 1
        if not self._left:
            self._input = self._kept = None
        return kept


def columns_of(x: torch.Tensor, columns: torch.Tensor, width: int) -> torch.Tensor:
    """The columns of blocks, (T, C·w), copied; the input itself where all are asked for, which costs nothing.

    Args:
        x: (..., I).
        columns: their numbers, on the device of `x`.
        width: w.
    """
    x_TI = as_autocast(x.reshape(-1, x.shape[-1]))
    if len(columns) * width == x_TI.shape[1]:
        return x_TI
    kept: torch.Tensor = x_TI.unflatten(1, (-1, width)).index_select(1, columns).flatten(1)
    return kept


class BlockLinear(torch.autograd.Function):
    """`F.linear` whose weight gradient exists for the chosen blocks only."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        blocks_Nhw: torch.Tensor,
        kept_TC: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        pairs: Pairs,
    ) -> torch.Tensor:
        """Computes (..., I) -> (..., O) and saves the kept columns.

        Args:
            ctx: autograd context.
            x: input of any leading shape.
            blocks_Nhw: the trainable blocks; their values are already in `weight_OI`.
            kept_TC: columns of the input that the blocks need.
            weight_OI: dense weight.
            bias_O: bias or None.
            pairs: per block its row in the output and its column's position in `kept_TC`.
        """
        ctx.pairs, ctx.shape, ctx.block_dtype = pairs, tuple(blocks_Nhw.shape[1:]), blocks_Nhw.dtype
        ctx.save_for_backward(kept_TC if ctx.needs_input_grad[1] else None, weight_OI)
        return F.linear(x, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of the input, where it has one, and of the blocks."""
        kept_TC, weight_OI = ctx.saved_tensors
        grad_x = grad_blocks = None
        if ctx.needs_input_grad[0]:
            grad_x = grad_y @ weight_OI.to(grad_y.dtype)
        if ctx.needs_input_grad[1]:
            dy_TO = grad_y.reshape(-1, grad_y.shape[-1])
            grad_blocks = gradients_of(dy_TO, kept_TC, ctx.pairs, ctx.shape).to(ctx.block_dtype)
        return grad_x, grad_blocks, None, None, None, None


class SparseLinear(nn.Module):
    """A linear layer of which only chosen blocks train.

    A weight of 4 bits stays as it is: the blocks, float32 copies of what it reads there, go into each whole matrix made of it.

    Args:
        linear: the layer it stands in for; weight and bias are shared, not copied.
        index: (row, column) of its blocks.
        blocks: where the blocks live, (N, h, w), float32 or more precise; filled here.
        columns: distinct columns of all layers that share the input, sorted.
        shared: gives the kept columns.
    """

    def __init__(
        self,
        linear: nn.Linear,
        index: list[tuple[int, int]],
        blocks: nn.Parameter,
        columns: Sequence[int],
        shared: Shared,
    ) -> None:
        super().__init__()
        self.index, self.shared, self.blocks = index, shared, blocks
        self.height, self.width = blocks.shape[1:]
        self.weight, self.bias = linear.weight, linear.bias
        position = {column: p for p, column in enumerate(columns)}
        device = self.weight.device
        self.pairs = Pairs([(row, position[column]) for row, column in index], device)
        self._rows_cols = tuple(torch.tensor(index, device=device).unbind(1))
        blocks.data.copy_(self._view(whole(self.weight))[self._rows_cols])
        written_by(self.weight, self._write)
        if self.height == self.width:
            tried(device, self.weight.dtype, self.height)

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
        if not (torch.is_grad_enabled() and self.blocks.requires_grad):
            return F.linear(x, self.weight, self.bias)
        out: torch.Tensor = BlockLinear.apply(x, self.blocks, self.shared(x), self.weight, self.bias, self.pairs)  # type: ignore[no-untyped-call]
        return out

    @torch.no_grad()
    def write_back(self) -> None:
        """Puts the trained blocks into the dense weight, where there is one; `WriteBack` does it for all layers."""
        if not isinstance(self.weight, Nf4):
            self._write(self.weight.data)

    def dense(self) -> nn.Linear:
        """The plain layer with the update folded in; shares the weight."""
        self.write_back()
        return plain(self.weight, self.bias)

    def _write(self, weight_OI: torch.Tensor) -> None:
        rows_cols = tuple(part.to(weight_OI.device) for part in self._rows_cols)  # a merged model may be elsewhere
        self._view(weight_OI)[rows_cols] = self.blocks.detach().to(weight_OI.dtype)

    def _view(self, weight_OI: torch.Tensor) -> torch.Tensor:
        # (R, C, h, w) onto the weight's own memory.
        o, i = weight_OI.shape
        split = weight_OI.view(o // self.height, self.height, i // self.width, self.width)
        return split.permute(0, 2, 1, 3)


def plain(weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> nn.Linear:
    """An ordinary linear layer around existing parameters."""
    out_features, in_features = weight_OI.shape
    linear = nn.Linear(in_features, out_features, bias=bias_O is not None, device="meta")
    linear.weight, linear.bias = weight_OI, bias_O  # type: ignore[assignment]  # both are parameters, or bias None
    return linear

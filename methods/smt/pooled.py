"""Block scores of `mean_abs` without a weight gradient: the collector of the frozen warm-up.

The sum of the gradient dYᵀ X over block (a, c) is linear in it:

    Σ_{i in a} Σ_{j in c} Σ_t dY[t, i] X[t, j] = Σ_t (Σ_{i in a} dY[t, i]) (Σ_{j in c} X[t, j])

So both sides are summed over blocks of features first, and two thin matrices are multiplied: (R x T) by (T x C) in place of
(O x T) by (T x I). What is kept from the forward pass is T x C numbers per input, and the score is one number per block.

Shape legend: T tokens, O = R·l outputs, I = C·l inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from smt_bench.methods.smt.layer import Shared, plain


def pool(x: torch.Tensor, side: int) -> torch.Tensor:
    """Sums over every `side` features: (..., I) -> (T, I / l), float32 or more precise."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.reshape(-1, x.shape[-1] // side, side).sum(dim=2, dtype=dtype)


class PooledGradient(torch.autograd.Function):
    """`F.linear` with a frozen weight; `sums_RC` receives the block sums of the weight's gradient as its own gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        sums_RC: torch.Tensor,
        pooled_TC: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
    ) -> torch.Tensor:
        """(..., I) -> (..., O)."""
        ctx.side = weight_OI.shape[0] // sums_RC.shape[0]
        ctx.save_for_backward(pooled_TC, weight_OI)
        return F.linear(x, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradient of the input, where it has one, and the block sums."""
        pooled_TC, weight_OI = ctx.saved_tensors
        grad_x = grad_y @ weight_OI if ctx.needs_input_grad[0] else None
        return grad_x, pool(grad_y, ctx.side).t() @ pooled_TC, None, None, None


class PooledLinear(nn.Module):
    """A frozen linear layer that collects the block sums of its weight's gradient in `sums.grad`, over backward passes.

    Args:
        linear: the layer it stands in for; weight and bias are shared, not copied.
        side: l.
        shared: pools the input, once for all layers that read it.
    """

    def __init__(self, linear: nn.Linear, side: int, shared: Shared) -> None:
        super().__init__()
        self.weight, self.bias, self.shared = linear.weight, linear.bias, shared
        (o, i), dtype = linear.weight.shape, torch.promote_types(linear.weight.dtype, torch.float32)
        # Never changes, is only there to have a gradient.
        self.sums = nn.Parameter(torch.zeros(o // side, i // side, device=linear.weight.device, dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) -> (..., O)."""
        if not torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        out: torch.Tensor = PooledGradient.apply(x, self.sums, self.shared(x), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out

    def dense(self) -> nn.Linear:
        """The plain layer again; shares the weight."""
        return plain(self.weight, self.bias)

"""Gates between 0 and 1, drawn anew in every step, in a linear layer: the hard-concrete distribution (Louizos et al., 2018).

    s = sigmoid(log u - log(1 - u) + a),  u ~ U(0, 1)     stretched to (-1.5, 1.5), cut off to [0, 1]:  z
    W = W0 + z * w                                        z, w, a: (O, I)

A gate is exactly 0 or exactly 1 with some probability, and in between its logit `a` has a gradient. Without noise, z is the gate
of s = sigmoid(a).

Shapes: T tokens (all leading dimensions together), O outputs, I inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from smt_bench.methods.modules import has_values
from smt_bench.methods.nf4 import whole
from smt_bench.methods.products import as_autocast, product, wide

REACH = 1.5  # s is stretched to (-REACH, REACH)
MARGIN = 1e-4  # of u to 0 and 1, whose logits are infinite


def gates(logits_OI: torch.Tensor, u_OI: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Gates z and their derivatives dz/da, both (O, I).

    Args:
        logits_OI: a.
        u_OI: uniform noise in (0, 1); None: without.
    """
    s_OI = torch.sigmoid(logits_OI if u_OI is None else logits_OI + torch.logit(u_OI, eps=MARGIN))
    stretched_OI = 2 * REACH * s_OI - REACH
    inside_OI = (stretched_OI > 0) & (stretched_OI < 1)
    return stretched_OI.clamp(0, 1), 2 * REACH * s_OI * (1 - s_OI) * inside_OI


def penalty_gradient(logits_OI: torch.Tensor) -> torch.Tensor:
    """Derivative of the expected number of gates that are not 0, sum of sigmoid(a), by a: (O, I)."""
    p_OI = torch.sigmoid(logits_OI)
    return p_OI * (1 - p_OI)


class _Gated(torch.autograd.Function):
    """A linear map through W0 + z * w. What is as large as the weight lives only inside the passes: the noise is drawn again."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        values_OI: torch.Tensor,
        logits_OI: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        layer: GatedLinear,
    ) -> torch.Tensor:
        """(..., I) -> (..., O)."""
        x_saved = as_autocast(x)
        ctx.layer, ctx.x_dtype = layer, x.dtype
        ctx.save_for_backward(x_saved, values_OI, logits_OI)
        return F.linear(x_saved, layer.weight_with(layer.gates()[0]), bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, of the differences and of the logits."""
        x, values_OI, _ = ctx.saved_tensors
        z_OI, slope_OI = ctx.layer.gates()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ ctx.layer.weight_with(z_OI).to(grad.dtype)).to(ctx.x_dtype)
        grad_OI = product(grad.reshape(-1, grad.shape[-1]).t(), x.reshape(-1, x.shape[-1])).to(values_OI.dtype)
        return grad_x, grad_OI * z_OI, grad_OI * values_OI * slope_OI, None, None, None


class GatedLinear(nn.Module):
    """A frozen linear layer with a gated difference for each of its weights, float32 or more precise.

    Args:
        linear: the layer to wrap; its weight and bias are shared, not copied.
        logit: of all gates at first.
        seed: gives the seed of this step's noise, the same in all its passes.

    Attributes:
        values: w.
        logits: a.
    """

    def __init__(self, linear: nn.Linear, logit: float, seed: Callable[[], int]) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias, self.seed = linear.weight, linear.bias, seed
        shape, kind, device = linear.weight.shape, wide(linear.weight.dtype), linear.weight.device
        self.values = nn.Parameter(torch.zeros(shape, dtype=kind, device=device))
        self.logits = nn.Parameter(torch.full(shape, logit, dtype=kind, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) -> (..., O); without noise where the model is judged."""
        if not self.training:
            return F.linear(as_autocast(x), self.weight_with(gates(self.logits.detach())[0]), self.bias)
        out: torch.Tensor = _Gated.apply(x, self.values, self.logits, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return out

    @torch.no_grad()
    def gates(self) -> tuple[torch.Tensor, torch.Tensor]:
        """This step's gates and their slopes, (O, I) each."""
        if not has_values(self.logits):
            return gates(self.logits, torch.rand_like(self.logits))
        generator = torch.Generator(self.logits.device).manual_seed(self.seed())
        u_OI = torch.rand(self.logits.shape, generator=generator, dtype=self.logits.dtype, device=self.logits.device)
        return gates(self.logits, u_OI)

    @torch.no_grad()
    def weight_with(self, z_OI: torch.Tensor) -> torch.Tensor:
        """W0 + z * w in the weight's type, (O, I)."""
        weight_OI = whole(self.weight)
        return (weight_OI.to(self.values.dtype) + z_OI * self.values).to(weight_OI.dtype)

"""The SpIEL linear layer: sparse deltas inside a dense weight (SpIEL, section 3.1, equations 4 to 6).

Shapes: T tokens (all leading dimensions together), O outputs, I inputs, D deltas, K growth candidates, k replaced
weights. `indices_D` point into the flattened (O, I) weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from smt_bench.methods.base import Average, alone
from smt_bench.methods.modules import has_values
from smt_bench.methods.nf4 import Nf4, whole, written_by
from smt_bench.methods.products import as_autocast, product
from smt_bench.methods.sampled import product_at


def index_dtype(numel: int) -> torch.dtype:
    """The smallest integer type that addresses every weight of the matrix."""
    return torch.int32 if numel < 2**31 else torch.int64


@dataclass
class Candidates:
    """Growth candidates of one matrix during a gradient estimation phase, each tensor (K,).

    Attributes:
        indices: where they are in the flattened weight.
        step: gradient of the current step, summed over its backward passes.
        total: gradients summed over the phase's finished steps.
        square: squared step gradients, summed likewise.
    """

    indices: torch.Tensor
    step: torch.Tensor
    total: torch.Tensor
    square: torch.Tensor

    def fold(self, average: Average) -> None:
        """Ends a step: its gradient joins the sums. Squares are of the whole step's gradient, as Adam's are."""
        step_K = average(self.step)
        self.total += step_K
        self.square += step_K * step_K
        self.step.zero_()


class DeltaGradient(torch.autograd.Function):
    """A linear map whose weight gradient is wanted at the deltas alone (equation 6)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        deltas_D: torch.Tensor,
        layer: SpielLinear,
    ) -> torch.Tensor:
        """x (..., I) to (..., O). The weight already holds the deltas; they are an input for autograd's sake."""
        x_saved = as_autocast(x)
        ctx.layer = layer
        ctx.x_dtype = x.dtype
        ctx.save_for_backward(x_saved if ctx.needs_input_grad[3] else None, weight_OI)
        return F.linear(x_saved, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, bias and deltas; where a dense one is made, it lives only inside this call."""
        x, weight_OI = ctx.saved_tensors
        need_x, _, need_bias, need_deltas, _ = ctx.needs_input_grad
        grad_x = (grad @ weight_OI.to(grad.dtype)).to(ctx.x_dtype) if need_x else None
        grad_TO = grad.reshape(-1, grad.shape[-1])
        grad_deltas_D = None
        if need_deltas:
            grad_deltas_D = ctx.layer.gradient(grad_TO, x.reshape(-1, x.shape[-1])).to(ctx.layer.deltas.dtype)
        return grad_x, None, grad_TO.sum(0) if need_bias else None, grad_deltas_D, None


class SpielLinear(nn.Module):
    """A frozen linear layer with trainable deltas at `indices`, kept in place in its dense weight.

    Always weight[indices] = base + deltas and, elsewhere, the pretrained value; inactive weights need no copy. The sum
    is recomputed from `base`, never accumulated, so low-precision weights do not drift. A weight of 4 bits stays as it is: the
    sum goes into each whole matrix that is made of it, and `base` is what is read of it there.

    Args:
        linear: the layer to wrap; its weight and bias parameters are shared, not copied.
        indices_D: distinct positions in the flattened weight.
        average: over the run's processes, which all have to pick the same candidates.
        deltas_D: zeros that the deltas become, a slice of one tensor for all layers; None: their own.
        regrow: whether an update may grow what it drops: active weights are then candidates, too.

    Attributes:
        sampled: whether gradients are computed at the deltas alone where `methods.sampled` has that for faster.
    """

    indices: torch.Tensor
    base: torch.Tensor

    def __init__(
        self,
        linear: nn.Linear,
        indices_D: torch.Tensor,
        average: Average = alone,
        deltas_D: nn.Parameter | None = None,
        regrow: bool = False,
    ) -> None:
        super().__init__()
        self.average, self.regrow, self.sampled = average, regrow, False
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        if not self.weight.is_contiguous():
            self.weight.data = self.weight.data.contiguous()
        device, dtype = self.weight.device, self.weight.dtype
        indices_D = indices_D.to(device)
        self.register_buffer("indices", indices_D.to(index_dtype(self.weight.numel())))
        self.register_buffer("base", self.flat()[indices_D.long()])
        # Deltas are float32 beside a bfloat16 model (appendix C); a float64 model keeps its precision.
        if deltas_D is None:
            wider = torch.promote_types(dtype, torch.float32)
            deltas_D = nn.Parameter(torch.zeros(len(indices_D), dtype=wider, device=device))
        self.deltas = deltas_D
        written_by(self.weight, self._write)
        self.collecting = False
        self.candidates: Candidates | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., I) to (..., O)."""
        out: torch.Tensor = DeltaGradient.apply(x, self.weight, self.bias, self.deltas, self)  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}, deltas={len(self.deltas)}"

    def flat(self) -> torch.Tensor:
        """The weight as a vector, outside autograd: a view, or of a weight of 4 bits what was quantized, made anew."""
        return whole(self.weight).view(-1)

    @torch.no_grad()
    def write_back(self) -> None:
        """Puts base + deltas into the dense weight (equation 4), where there is one."""
        if not isinstance(self.weight, Nf4):
            self._write(self.weight.detach())

    @torch.no_grad()
    def _write(self, weight_OI: torch.Tensor) -> None:
        sum_D = (self.base.to(self.deltas.dtype) + self.deltas).to(weight_OI.dtype)
        weight_OI.view(-1)[self.indices.long()] = sum_D

    @torch.no_grad()
    def select(self, indices_D: torch.Tensor, base_D: torch.Tensor) -> None:
        """Moves to other indices with their pretrained values, restoring the weights left behind."""
        if not isinstance(self.weight, Nf4):
            self.flat()[self.indices.long()] = self.base
        self.indices.copy_(indices_D)
        self.base.copy_(base_D)
        self.write_back()

    @torch.no_grad()
    def gradient(self, dy_TO: torch.Tensor, x_TI: torch.Tensor) -> torch.Tensor:
        """The weight gradient dYᵀ X at the deltas, (D,), float32 or more precise; the estimation phase takes what it needs.

        Dense and gathered, or at the deltas alone (`sampled`); only a phase's first pass has to see all of it.
        """
        found = self.candidates if self.collecting else None
        if self.sampled and not (self.collecting and found is None):
            places = self.indices if found is None else torch.cat([self.indices, found.indices])
            values = product_at(dy_TO, x_TI, places)
            if values is not None:
                if found is not None:
                    found.step += values[len(self.indices) :]
                return values[: len(self.indices)]
        grad_n = product(dy_TO.t(), x_TI).view(-1)
        grad_D = grad_n.index_select(0, self.indices)
        if self.collecting:
            self.collect(grad_n)
        return grad_D

    def move_to(self, indices_D: torch.Tensor, base_D: torch.Tensor) -> None:
        """Keeps indices and pretrained values in these tensors, e.g. slices of larger ones, from now on."""
        indices_D.copy_(self.indices)
        base_D.copy_(self.base)
        self.indices, self.base = indices_D, base_D

    @torch.no_grad()
    def collect(self, grad_n: torch.Tensor) -> None:
        """Takes what the estimation phase needs from one backward pass's dense gradient, flattened.

        The first pass of the phase also picks the candidates: the K_i largest magnitudes outside the active indices, or anywhere.
        """
        if self.candidates is None:
            magnitude_n = self.average(grad_n).abs()
            if not self.regrow:  # active weights cannot be grown: below every magnitude
                magnitude_n.index_fill_(0, self.indices.long(), -1)
            room = min(len(self.deltas), len(grad_n) - (0 if self.regrow else len(self.deltas)))
            indices_K = magnitude_n.topk(room, sorted=False).indices.to(self.indices.dtype)
            zeros_K = torch.zeros(room, dtype=self.deltas.dtype, device=grad_n.device)
            self.candidates = Candidates(indices_K, zeros_K, zeros_K.clone(), zeros_K.clone())
        self.candidates.step += grad_n.index_select(0, self.candidates.indices)

    @torch.no_grad()
    def replace(self, k: int, phase: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Drops the k smallest deltas, grows the k candidates with the largest mean gradient, ends the phase.

        Args:
            k: how many, at most; fewer where there are fewer candidates.
            phase: steps of the estimation phase (gamma).

        Returns:
            Slots (positions in `deltas`) now held by grown weights, with their mean gradient and mean squared gradient.
        """
        found, self.candidates, self.collecting = self.candidates, None, False
        assert found is not None, "no gradient reached this layer during the estimation phase"
        mean_K = found.total / phase
        if self.regrow:
            slots_k, grown_k = self._exchanged(k, found.indices, mean_K)
        else:
            k = min(k, len(found.indices))
            slots_k, grown_k = self.smallest(k), mean_K.abs().topk(k).indices
        self.move(slots_k, found.indices[grown_k])
        return slots_k, mean_K[grown_k], found.square[grown_k] / phase

    def _exchanged(self, k: int, indices_K: torch.Tensor, mean_K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots to drop and candidates to grow where candidates may be active: what would be dropped and grown stays as it is."""
        slots_k = self.smallest(k)
        if not has_values(slots_k):
            return slots_k, mean_K.topk(k).indices
        dropped_k = self.indices[slots_k]
        there_K = torch.isin(indices_K, self.indices) & ~torch.isin(indices_K, dropped_k)
        scores_K = mean_K.abs().masked_fill(there_K, -1)
        grown_k = scores_K.topk(min(k, len(indices_K) - int(there_K.sum()))).indices
        slots_k = slots_k[torch.isin(dropped_k, indices_K[grown_k], invert=True)]
        grown_k = grown_k[torch.isin(indices_K[grown_k], dropped_k, invert=True)]
        return slots_k[: len(grown_k)], grown_k

    def smallest(self, k: int) -> torch.Tensor:
        """Slots (k,) of the smallest deltas, the smallest first."""
        return self.deltas.detach().abs().topk(k, largest=False).indices

    @torch.no_grad()
    def move(self, slots_k: torch.Tensor, indices_k: torch.Tensor) -> None:
        """Drops the deltas at these slots, whose weights become the pretrained ones, and grows others there, at 0.

        Args:
            slots_k: positions in `deltas`.
            indices_k: positions in the flattened weight, not active before.
        """
        flat_n = self.flat()
        flat_n[self.indices[slots_k].long()] = self.base[slots_k]
        self.indices[slots_k] = indices_k.to(self.indices.dtype)
        self.base[slots_k] = flat_n[self.indices[slots_k].long()]
        self.deltas.index_fill_(0, slots_k, 0)

"""What a frozen warm-up looks at: a function of every weight gradient, summed up over backward passes, one matrix at a time.

Inside a layer's backward pass its input and its output's gradient are at hand, example by example. The dense gradient, or its
squares, live only there; their sums are as large as all targets in float32 (`methods.sums` says where they are kept).

Shapes: B examples, T tokens of an example, O outputs, I inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from smt_bench.methods.base import Average
from smt_bench.methods.modules import freeze, linears, replace_module
from smt_bench.methods.products import as_autocast, product
from smt_bench.methods.sums import Sums

Look = Callable[
    [torch.Tensor, torch.Tensor], torch.Tensor
]  # gradient of the output (B, T, O), input (B, T, I) -> (O, I)


def gradient(dy_BTO: torch.Tensor, x_BTI: torch.Tensor) -> torch.Tensor:
    """The weight's gradient, float32 or more precise."""
    return product(dy_BTO.flatten(0, 1).t(), x_BTI.flatten(0, 1))


def squares(dy_BTO: torch.Tensor, x_BTI: torch.Tensor) -> torch.Tensor:
    """The squared gradients of single examples, summed over the examples."""
    total_OI = product(dy_BTO[0].t(), x_BTI[0]).square_()
    for dy_TO, x_TI in zip(dy_BTO[1:], x_BTI[1:]):
        one_OI = product(dy_TO.t(), x_TI)
        total_OI.addcmul_(one_OI, one_OI)
    return total_OI


class _Watching(torch.autograd.Function):
    """`F.linear` with a frozen weight, whose backward pass shows what the weight's gradient is made of."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        _reached: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        layer: Any,
    ) -> torch.Tensor:
        """(..., I) -> (..., O). `_reached` is there to have a gradient, so that every layer has a backward pass."""
        x_saved = as_autocast(x)
        ctx.layer, ctx.x_dtype = layer, x.dtype
        ctx.save_for_backward(x_saved, weight_OI)
        return F.linear(x_saved, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of x."""
        x, weight_OI = ctx.saved_tensors
        ctx.layer.show(grad_y, x)
        grad_x = (grad_y @ weight_OI.to(grad_y.dtype)).to(ctx.x_dtype) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, None, None


class _WatchedLinear(nn.Module):
    """A frozen linear layer that shows its backward passes."""

    def __init__(self, linear: nn.Linear, show: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
        super().__init__()
        self.weight, self.bias, self.show = linear.weight, linear.bias, show
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.reached = nn.Parameter(torch.zeros(0, device=linear.weight.device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., I) -> (..., O)."""
        if not torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        out: torch.Tensor = _Watching.apply(x, self.reached, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return out


class Watch:
    """Puts watched layers into a model and takes them out again.

    Args:
        targets: layers to watch.
        look: what is summed up.
        sums: layer name -> (O, I) so far; filled in place.
        average: over the run's processes, which all see the sums of all.
    """

    def __init__(self, targets: Iterable[str], look: Look, sums: dict[str, torch.Tensor], average: Average) -> None:
        self.targets, self.look, self.sums, self.average = tuple(targets), look, sums, average
        self._originals: dict[str, nn.Linear] = {}
        self._whole: Sums | None = None
        self._examples = 1
        self._undo: Callable[[], None] = lambda: None

    def start(self, model: nn.Module) -> None:
        """Freezes the model; from now on backward passes are watched."""
        freeze(model)
        words = model.get_input_embeddings()  # type: ignore[operator]  # a transformers model
        self._undo = words.register_forward_hook(self._count).remove
        self._originals = dict(linears(model, self.targets))
        self._whole = Sums(self.sums, sum(4 * linear.weight.numel() for linear in self._originals.values()))
        for name, linear in self._originals.items():
            replace_module(model, name, _WatchedLinear(linear, self._shown(name)))

    def stop(self, model: nn.Module) -> None:
        """Leaves the model as it was."""
        self._undo()
        for name, linear in self._originals.items():
            replace_module(model, name, linear)
        self._originals, self._whole = {}, None

    def _count(self, _words: nn.Module, _ids: Any, embedded: torch.Tensor) -> None:
        self._examples = embedded.shape[0]  # some layers see the tokens of all examples in one row

    def _shown(self, name: str) -> Callable[[torch.Tensor, torch.Tensor], None]:
        @torch.no_grad()
        def show(grad_y: torch.Tensor, x: torch.Tensor) -> None:
            examples = grad_y.shape[0] if grad_y.ndim > 2 else self._examples
            dy_TO, x_TI = grad_y.reshape(-1, grad_y.shape[-1]), x.reshape(-1, x.shape[-1])
            if len(dy_TO) % examples:
                raise ValueError(f"targets: {name} does not see the tokens of one example after another: leave it out")
            shape = (examples, len(dy_TO) // examples, -1)
            found_OI = self.average(self.look(dy_TO.view(shape), x_TI.view(shape)))
            assert self._whole is not None
            self._whole.add(name, found_OI)

        return show

"""The two ends of every comparison: full fine-tuning, and the pretrained model as it is."""

from __future__ import annotations

from torch import nn

from smt_bench.methods.base import MASTERS, Capacity, Method, ParamGroup, Shapes
from smt_bench.methods.modules import freeze, total_parameters


class Full(Method):
    """Trains every parameter."""

    name = "full"
    version = 1
    summary = "all parameters"
    title = "full"
    look = ("#000000", "P")
    order = 100  # what the others try to reach stands last
    takes_fraction = False

    def capacity(self, shapes: Shapes) -> Capacity:
        """Everything."""
        total = total_parameters(shapes)
        return Capacity("parameters", total, total, 1, total)

    @property
    def trains_dense(self) -> bool:
        """All the time."""
        return True

    @property
    def half(self) -> str:
        """As DeepSpeed's bf16, which the papers use: weights and gradients in bf16, the update on float32 copies."""
        return MASTERS

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Turns every parameter on."""
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return [ParamGroup(list(model.parameters()))]

    def merge(self, model: nn.Module) -> None:
        """The weights are the update."""


class Base(Method):
    """Trains nothing: the floor that every accuracy is to be read against."""

    name = "base"
    version = 1
    summary = "the pretrained model, untouched"
    title = "base"
    look = ("#7F7F7F", "X")
    order = 0
    takes_fraction = False

    def capacity(self, shapes: Shapes) -> Capacity:
        """Nothing."""
        return Capacity("parameters", 0, 0, 1, total_parameters(shapes))

    @property
    def whole_base(self) -> None:
        """The quantized model as it is."""

    @property
    def half(self) -> str:
        """Nothing trains."""
        return "nothing trains"

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Freezes the model; the engine trains nothing where no group comes back."""
        freeze(model)
        return []

    def merge(self, model: nn.Module) -> None:
        """Nothing was changed."""

"""Methods that train a few weights of the targeted matrices, chosen once before tuning, and leave all others alone.

    W = W0 + M * delta,   M fixed: 1 at the chosen indices

Deltas are AdamW's, float32 or more precise, also beside bf16 weights; nothing is kept for weights that were not chosen: neither a
gradient beyond the layer's own backward pass nor optimizer state. Weight decay, where a run has one, pulls deltas to 0, that is
weights to their pretrained values.

Shapes: O outputs and I inputs of a matrix, D deltas of one matrix.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn
from typing_extensions import TypeVar

from smt_bench.methods.base import Capacity, Method, MethodConfig, ParamGroup, Shapes
from smt_bench.methods.modules import targeted, total_parameters
from smt_bench.methods.roles import role
from smt_bench.methods.sparse import Deltas, kernels_left, linear_layers, wanted_deltas


@dataclass(frozen=True)
class MaskConfig(MethodConfig):
    """What all masks can be told.

    Attributes:
        targets: linear layers of which weights may be chosen.
    """

    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    @property
    def layers(self) -> tuple[str, ...]:
        """The targets."""
        return self.targets

    def with_layers(self, layers: tuple[str, ...]) -> Self:
        """With other targets."""
        return replace(self, targets=layers)


MaskT_co = TypeVar("MaskT_co", bound=MaskConfig, default=MaskConfig, covariant=True)


class Mask(Method[MaskT_co]):
    """Everything but the choice."""

    bytes_per_number: ClassVar[int] = 28  # index, pretrained value, delta, gradient twice, two moments

    def __init__(self, config: MaskT_co, fraction: float | None, seed: int, steps: int) -> None:
        super().__init__(config, fraction, seed, steps)
        self.indices: dict[str, torch.Tensor] = {}
        self._deltas: Deltas | None = None

    def check(self) -> None:
        """Refuses what is no fraction, and warm-ups that leave nothing to tune."""
        if self.fraction is None or not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}: choose trainable numbers / all parameters, e.g. 0.01")
        if self.warmup_steps and self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} with steps={self.steps}: at least one step has to be left for tuning: "
                "choose a shorter warm-up or more steps"
            )

    def capacity(self, shapes: Shapes) -> Capacity:
        """The fraction as a number of deltas."""
        assert self.fraction is not None
        wanted, _ = wanted_deltas(self.fraction, shapes, self.config.targets)
        return Capacity("deltas", wanted, wanted, 1, total_parameters(shapes))

    @abstractmethod
    def choose(self, linears: Mapping[str, nn.Linear], shapes: Shapes) -> dict[str, torch.Tensor]:
        """Layer name -> (D,) distinct positions in its flattened weight.

        Args:
            linears: the targeted layers, in model order; plain ones, as before the warm-up.
            shapes: parameter name -> shape.
        """

    def settle(self, model: nn.Module) -> None:  # noqa: B027 - optional hook
        """Takes out of the model what the warm-up put in; called before anything else at the end of it."""

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Chooses (unless a choice was restored), and wraps the layers that were chosen from."""
        self.settle(model)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        linears = linear_layers(model, targeted(shapes, self.config.targets))
        if not self.indices:
            self.indices = self.choose(linears, shapes)
        counts = {name: len(found) for name, found in self.indices.items()}
        self._deltas = Deltas(model, linears, counts, self.indices.__getitem__, self.average)
        # The layers hold them from now on, all of a device in one tensor.
        self.indices = {name: layer.indices for name, layer in self._deltas.layers.items()}
        return [self._deltas.group()]

    def before_step(self, model: nn.Module, step: int) -> None:
        """Gradients start from zero."""
        assert self._deltas is not None
        self._deltas.flat.clear_gradients()

    def after_backward(self, model: nn.Module, step: int) -> None:
        """Gradients go to the optimizer."""
        assert self._deltas is not None
        self._deltas.flat.publish_gradients()

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Writes the deltas into the weights."""
        assert self._deltas is not None
        self._deltas.write()

    def merge(self, model: nn.Module) -> None:
        """Plain linear layers again, with the deltas in their weights."""
        assert self._deltas is not None
        self._deltas.merge(model)
        self._deltas = None

    @property
    def whole_base(self) -> str | None:
        """Only for those whose warm-up trains."""
        return super().whole_base if self.trains_dense else None

    @property
    def half(self) -> str:
        """Deltas and their gradients are float32."""
        return "float32 deltas and gradients"

    def describe(self) -> dict[str, Any]:
        """How the deltas fell on matrices, and a hash of where they are."""
        per_target: Counter[str] = Counter()
        drawn = hashlib.blake2b(digest_size=8)
        for name, found in self.indices.items():
            per_target[role(name)] += len(found)
            drawn.update(name.encode() + found.cpu().long().numpy().tobytes())
        return {
            "deltas_per_target": dict(per_target),
            "deltas": {name: len(found) for name, found in self.indices.items()},
            "indices_blake2b": drawn.hexdigest(),
        }

    def ran(self) -> dict[str, Any]:
        """Kernels that were left, with reasons."""
        return kernels_left()

    def state_dict(self) -> dict[str, Any]:
        """The choice, once it is made."""
        return {"indices": dict(self.indices)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`, before `warmup` goes on or, where a choice was made, before `attach`."""
        self.indices = dict(state["indices"])

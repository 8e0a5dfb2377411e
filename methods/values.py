"""The plain values of the Method contract: what a method and the engine say to each other.

Whoever writes or drives a method imports them with it, from `methods.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import nn

from smt_bench.methods.settings import make_canonical

Shapes = Mapping[str, tuple[int, ...]]
Average = Callable[[torch.Tensor], torch.Tensor]  # over the run's processes
MASTERS = "bf16 weights and gradients, float32 masters"


@dataclass(frozen=True)
class Capacity:
    """What a requested trainable fraction becomes for one method on one model.

    Attributes:
        unit: name of the capacity unit ("rank", "blocks", "deltas", "parameters").
        units: how many of them.
        trainable: trainable numbers that follow.
        unit_numbers: trainable numbers of one unit; the smallest step the method can take.
        total: all base parameters, the denominator of the papers' "#Params%".
        kept: bytes that a warm-up needs beside the model, where it is neither the tuning phase's nor full fine-tuning's.
    """

    unit: str
    units: int
    trainable: int
    unit_numbers: int
    total: int
    kept: int = 0

    @property
    def fraction(self) -> float:
        """Trainable numbers per base parameter (1.0 is everything)."""
        return self.trainable / self.total


@dataclass
class ParamGroup:
    """Parameters that share optimizer settings.

    Attributes:
        params: the trainable parameters.
        lr_scale: factor on the run's learning rate.
        weight_decay: overrides the run's weight decay where not None.
        pieces: what `params` are put together of, with gradients that are slices of theirs: the norm of all gradients is taken
            over these, piece by piece. None: `params` themselves.
    """

    params: list[nn.Parameter]
    lr_scale: float = 1.0
    weight_decay: float | None = None
    pieces: list[nn.Parameter] | None = None


@dataclass(frozen=True)
class OptimizerSettings:
    """What the run says about its optimizer; `lr` is the peak, the engine's schedule scales it per step.

    `fused` asks for the fused kernel on the CPU too, where training keeps torch's default; measurements of time do.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    fused: bool = False


@dataclass(frozen=True)
class MethodConfig:
    """Base of every method's configuration; frozen and JSON-serialisable, since it is part of the run key.

    A config is a frozen dataclass whose annotations say what its settings can be, and `settings.setting` in which range.
    """

    def __post_init__(self) -> None:
        """Every value becomes the one form that its field's annotation and range allow.

        Raises:
            ValueError: it has none.
        """
        make_canonical(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Builds the config from plain JSON values; lists become tuples, and so do names in one text, by commas.

        Raises:
            ValueError: an unknown field name, or a value that its field cannot take.
        """
        known = {f.name for f in fields(cls)}
        for name in values:
            if name not in known:
                choice = f"choose from {', '.join(sorted(known))}" if known else "the method has none"
                raise ValueError(f"{name}: unknown setting: {choice}")
        return cls(**values)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that the method changes, see `methods.roles`; planning makes them the ones that the model has."""
        return ()

    def with_layers(self, layers: tuple[str, ...]) -> Self:
        """The same settings for other layers; for a config that has any."""
        raise NotImplementedError(f"{type(self).__name__} names layers, and must say how others are named")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, tuples as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def alone(tensor: torch.Tensor) -> torch.Tensor:
    """The average over one process: the tensor itself."""
    return tensor

"""Masks chosen by what a frozen warm-up saw: the first steps of a run train nothing, and are counted as its steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from typing_extensions import TypeVar

from smt_bench.methods.base import Capacity, ParamGroup, Shapes
from smt_bench.methods.masks.base import Mask, MaskConfig
from smt_bench.methods.masks.watch import Look, Watch
from smt_bench.methods.modules import numel, targeted
from smt_bench.methods.search import Span
from smt_bench.methods.settings import setting


@dataclass(frozen=True)
class WatchedConfig(MaskConfig):
    """What such masks can be told.

    Attributes:
        warmup_steps: steps that only look; the run's learning-rate schedule goes on meanwhile.
    """

    warmup_steps: int = setting(1, at_least=1)


WatchedT_co = TypeVar("WatchedT_co", bound=WatchedConfig, default=WatchedConfig, covariant=True)


class WatchedMask(Mask[WatchedT_co]):
    """Everything but what is summed up and how it is ranked."""

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """How many steps look."""
        return {"warmup_steps": Span(1, max(1, steps // 8), whole=True)}

    def __init__(self, config: WatchedT_co, fraction: float | None, seed: int, steps: int) -> None:
        super().__init__(config, fraction, seed, steps)
        self._sums: dict[str, torch.Tensor] = {}
        self._watch: Watch | None = None

    def capacity(self, shapes: Shapes) -> Capacity:
        """As all masks; the warm-up keeps a float32 sum per targeted weight."""
        held = sum(numel(shape) for shape in targeted(shapes, self.config.targets).values())
        return replace(super().capacity(shapes), kept=4 * held)

    @property
    @abstractmethod
    def summed(self) -> Look:
        """What is summed up of every backward pass."""

    @abstractmethod
    def rank(self, sums: Mapping[str, torch.Tensor], shapes: Shapes) -> dict[str, torch.Tensor]:
        """Layer name -> (D,) positions, by the sums (O, I) of the targeted layers, in model order."""

    @property
    def warmup_steps(self) -> int:
        """Counted within the run's steps."""
        return self.config.warmup_steps

    def warmup(self, model: nn.Module) -> list[ParamGroup]:
        """Puts watched layers into the model; nothing trains."""
        self._watch = Watch(self.config.targets, self.summed, self._sums, self.average)
        self._watch.start(model)
        return []

    def settle(self, model: nn.Module) -> None:
        """Takes the watched layers out."""
        if self._watch is not None:
            self._watch.stop(model)
            self._watch = None

    def choose(self, linears: Mapping[str, nn.Linear], shapes: Shapes) -> dict[str, torch.Tensor]:
        """By the sums, which are then given up."""
        lost = [name for name in linears if name not in self._sums]
        if lost:
            raise ValueError(f"targets: no gradient reached {lost[0]} in the warm-up: leave it out")
        found = self.rank({name: self._sums[name] for name in linears}, shapes)
        self._sums.clear()
        return found

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, or the choice once it is made."""
        return {**super().state_dict(), "sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        super().load_state_dict(state)
        self._sums = dict(state["sums"])

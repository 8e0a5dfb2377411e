"""FISH Mask: the weights with the largest Fisher information train (Sung, Nair and Raffel, 2021, "Training Neural Networks with
Fixed Sparse Masks").

    F_ij = 1/N  sum over N examples of (d log p(y | x) / d W_ij)²        the diagonal of the empirical Fisher information
    M    = 1 at the largest F, over all matrices together

The first `warmup_steps` steps of a run train nothing: N = steps x examples per step. The squares of single examples' gradients
are made in each layer's backward pass, one matrix at a time (`watch.py`); their sums take 4 bytes per targeted weight, on the GPU
where it has room, else in main memory.

Deviations / decisions:
    - Labels are the data's ("empirical"), as in the paper's results; an expectation over the model's own predictions would cost
      one backward pass per class, and has no such form for sequences.
    - The authors rank all parameters but those of a new classifier, which all train; here those of the targets.
    - log p(y | x) sums over an example's response. The engine divides a step's loss by the label tokens of the whole step, so
      examples of steps with fewer of them weigh a little more. Within one step nothing differs from the paper.
    - The authors' default of 1,024 examples is 64 steps of 16. A run's own steps pay for them, at most a twentieth by default.
    - The mask stays as it is; the variant for distributed training, which renews it, is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from smt_bench.methods.base import Shapes
from smt_bench.methods.masks.choice import largest
from smt_bench.methods.masks.watch import Look, squares
from smt_bench.methods.masks.watched import WatchedConfig, WatchedMask
from smt_bench.methods.settings import setting


@dataclass(frozen=True)
class FishConfig(WatchedConfig):
    """FISH Mask's settings.

    Attributes:
        warmup_steps: steps whose examples the Fisher information is estimated on.
    """

    warmup_steps: int = setting(64, at_least=1)


class Fish(WatchedMask[FishConfig]):
    """Trains the weights with the largest Fisher information."""

    name = "fish"
    version = 1
    summary = "FISH Mask: the weights with the largest Fisher information"
    title = "FISH Mask"
    look = ("#882255", "<")
    order = 24
    Config = FishConfig

    @classmethod
    def recipe(cls, steps: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """The authors' 1,024 examples, at most a twentieth of the run."""
        return {"warmup_steps": max(1, min(FishConfig.warmup_steps, steps // 20)), **given}

    @property
    def summed(self) -> Look:
        """Squared gradients of single examples."""
        return squares

    def rank(self, sums: Mapping[str, torch.Tensor], shapes: Shapes) -> dict[str, torch.Tensor]:
        """The largest over all matrices together."""
        return largest(sums, self.capacity(shapes).units)

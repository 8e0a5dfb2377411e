"""SIFT, sparse increment fine-tuning: the weights with the largest gradients in the first batches train (Song et al., 2024,
"Sparse is Enough in Fine-tuning Pre-trained Large Language Models").

    M_i = 1 at the largest |sum over the first batches of dL/dW_i|, the same share of every matrix i

Gradients and optimizer state exist for the chosen weights only; the dense gradient of a matrix lives inside its backward pass
(`deltas`), which is the paper's hook.

Deviations / decisions:
    - "The first few batches": the authors' code takes the first micro-batch; the default here is the first whole step, which
      trains nothing, as theirs does not.
    - Their code keeps values in the model's dtype and adds increments to the weight; here W = W0 + delta in float32, see `base`.
    - Of a matrix with n weights they take floor(x n) + 1, here the budget is shared out exactly.
    - Embeddings and norms, which their scripts may train beside ("exception"), stay frozen.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from smt_bench.methods.base import Shapes
from smt_bench.methods.masks.choice import largest
from smt_bench.methods.masks.watch import Look, gradient
from smt_bench.methods.masks.watched import WatchedConfig, WatchedMask
from smt_bench.methods.sparse import even_counts


class Sift(WatchedMask[WatchedConfig]):
    """Trains the weights with the largest first gradients."""

    name = "sift"
    version = 1
    summary = "SIFT: the weights with the largest gradients in the first batch"
    title = "SIFT"
    look = ("#44AA99", ">")
    order = 23
    Config = WatchedConfig

    @property
    def summed(self) -> Look:
        """Gradients, with their signs."""
        return gradient

    def rank(self, sums: Mapping[str, torch.Tensor], shapes: Shapes) -> dict[str, torch.Tensor]:
        """The largest magnitudes of each matrix."""
        assert self.fraction is not None
        counts = even_counts(self.fraction, shapes, self.config.targets)
        found: dict[str, torch.Tensor] = {}
        for name, count in counts.items():
            if count:
                found |= largest({name: sums[name]}, count)
        return found

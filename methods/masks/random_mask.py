"""Random masking: the weights that train are drawn at random (Xu and Zhang, 2024, "Random Masking Finds Winning Tickets for
Parameter Efficient Fine-tuning"; the control of FISH Mask and SIFT).

    M ~ uniform over all masks with D_i ones in matrix i

Deviations / decisions:
    - The paper draws every weight for itself; here every matrix gets exactly its share (same density everywhere), so that the
      budget is met. The draw is SpIEL's first one.
    - The fewer weights train, the larger the best rate, says the paper; rates are the recipe's here, one for all fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from smt_bench.methods.base import Shapes
from smt_bench.methods.deltas import index_dtype
from smt_bench.methods.masks.base import Mask, MaskConfig
from smt_bench.methods.sparse import even_counts, scattered


class RandomMask(Mask[MaskConfig]):
    """Trains weights at random indices."""

    name = "random-mask"
    version = 1
    summary = "random weights, drawn once"
    title = "random mask"
    look: ClassVar[tuple[str, str] | None] = ("#999933", "v")
    order = 22
    Config = MaskConfig

    def choose(self, linears: Mapping[str, nn.Linear], shapes: Shapes) -> dict[str, torch.Tensor]:
        """At random, at the same density in every matrix."""
        assert self.fraction is not None
        counts = even_counts(self.fraction, shapes, self.config.targets)
        draw = scattered(counts, linears, self.seed)
        return {name: draw(name).to(index_dtype(linears[name].weight.numel())) for name, n in counts.items() if n}

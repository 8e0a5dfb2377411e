"""SpIEL-MA: SpIEL with SM3, whose row and column buffers also say where to grow (Ansell et al., 2024, section 3.3).

Deltas, their number per matrix, the times of updates and equation 8 are SpIEL-AG's (`method.py`). What differs:

    update   SM3 (`sm3.py`) in place of Adam: H + W numbers of state for an (H, W) matrix
    DROP     the k deltas with the smallest |phi|
    GROW     the k weights with the largest r_a c_b (equation 9, whose root changes no order) among those that were not active

There is no estimation phase: no gradient is kept beside those of the deltas, and grown ones need no moments.

Shapes: H rows and W columns of a matrix, D deltas, k replaced.

Deviations / decisions:
    - `estimate_steps` only says when the first update comes, at which all deltas move; the schedule is AG's.
    - Weights that were active before the drop are no candidates, and a row or column in which no delta ever had a gradient cannot
      grow. Where candidates do not suffice, fewer deltas move. Equal products go by position, on every device alike.
    - The candidates are found without an H x W matrix (`largest.py`).
    - Decay follows the update: phi (1 - lr lambda). SM3 has no betas; the run's are not used, its eps is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from smt_bench.methods.base import MethodConfig, OptimizerSettings
from smt_bench.methods.deltas import SpielLinear
from smt_bench.methods.modules import has_values
from smt_bench.methods.spiel.config import ScheduleConfig
from smt_bench.methods.spiel.largest import largest_products
from smt_bench.methods.spiel.method import Spiel
from smt_bench.methods.spiel.sm3 import SpielSM3


class SpielMa(Spiel):
    """SpIEL-MA behind the Method contract."""

    name: ClassVar[str] = "spiel-ma"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "SpIEL-MA: sparse deltas under SM3, grown where rows and columns have large gradients"
    title: ClassVar[str] = "SpIEL-MA"
    look: ClassVar[tuple[str, str] | None] = ("#56B4E9", "D")
    order: ClassVar[int] = 21
    Config: ClassVar[type[MethodConfig]] = ScheduleConfig
    bytes_per_number: ClassVar[int] = 20  # index, pretrained value, delta, gradient twice; SM3 has no moments
    decays: ClassVar[tuple[float, float]] = (0.001, 3.0)  # higher rates: less decay for the same effect (appendix C)

    def __init__(self, config: ScheduleConfig, fraction: float | None, seed: int, steps: int) -> None:
        super().__init__(config, fraction, seed, steps)
        self._sm3: SpielSM3 | None = None

    def optimizer(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """SM3."""
        assert self._flat is not None
        parts: dict[int, list[tuple[SpielLinear, int]]] = {id(whole): [] for whole in self._flat.parameters}
        for layer in self.layers.values():
            whole, first = self._flat.whole_of(layer.deltas)
            parts[id(whole)].append((layer, first))
        self._sm3 = SpielSM3(groups, list(parts.values()), settings.lr, settings.eps, settings.weight_decay)
        return self._sm3

    def phase(self, step: int) -> int:
        """No step estimates gradients."""
        return 0

    def drop_and_grow(self, counts: Mapping[str, int]) -> int:
        """Moves up to so many deltas of each layer; returns how many in all."""
        assert self._flat is not None and self._sm3 is not None
        names = {id(layer): name for name, layer in self.layers.items()}
        moved = 0
        for whole in self._flat.parameters:
            for layer, rows_H, columns_W in self._sm3.buffers(whole):
                name = names[id(layer)]
                if not has_values(rows_H):  # nothing moves, nor would any byte
                    continue
                grown_k = largest_products(rows_H, columns_W, layer.indices, counts[name])
                slots_k = layer.smallest(len(grown_k))
                layer.move(slots_k, grown_k)
                self._grown(name, slots_k)
                moved += len(slots_k)
        return moved

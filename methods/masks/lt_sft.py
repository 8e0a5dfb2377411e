"""LT-SFT, lottery-ticket sparse fine-tuning (Ansell et al., 2022, "Composable Sparse Fine-Tuning for Cross-Lingual Transfer").

    1. train all targeted matrices:  W0 -> W1
    2. M = 1 at the largest |W1 - W0|, over all matrices together
    3. rewind to W0 and train  W0 + M * delta

Deviations / decisions:
    - The authors' first round trains every parameter, and masks most of them; here it trains the targets, from which it chooses.
    - Both rounds count as steps of the run: `warmup_share` of them are the first. The authors give both rounds the same length.
    - The second round has a learning-rate schedule of its own, as theirs; the first follows the run's, which is on its way down
      when it ends. `warmup_lr_scale` multiplies the rate of the first, because one that is right for 1 % of the numbers is too
      high for all.
    - One round of choosing; the authors' code can repeat it. No L1 penalty on deltas (their default, too).
    - Beside bf16 weights the first round trains float32 ones: |W1 - W0| of rounded weights would rank rounding steps.
    - W0 waits in main memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from smt_bench.methods.base import ParamGroup, Shapes
from smt_bench.methods.masks.choice import Made, largest
from smt_bench.methods.masks.rounds import RoundsConfig, RoundsMask
from smt_bench.methods.modules import freeze, linears
from smt_bench.methods.products import wide
from smt_bench.methods.search import Span


class LtSft(RoundsMask[RoundsConfig]):
    """Trains the weights that a round of full fine-tuning moved most."""

    name = "lt-sft"
    version = 1
    summary = "LT-SFT: the weights that a round of full fine-tuning moved most, from their pretrained values"
    title = "LT-SFT"
    look = ("#AA4499", "X")
    order = 25
    round_bytes = 16  # float32 weight, gradient and two moments
    Config = RoundsConfig

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """The first round: its length and its rate."""
        return {"warmup_share": Span(0.1, 0.7, log=False), "warmup_lr_scale": Span(0.03, 1.0)}

    def __init__(self, config: RoundsConfig, fraction: float | None, seed: int, steps: int) -> None:
        self._pretrained: dict[str, torch.Tensor] = {}
        super().__init__(config, fraction, seed, steps)

    @property
    def trains_dense(self) -> bool:
        """The first round trains nearly everything."""
        return True

    @property
    def half(self) -> str:
        """Everything that trains is float32."""
        return "float32 deltas and gradients; first round: float32 weights and gradients"

    def warmup(self, model: nn.Module) -> list[ParamGroup]:
        """Turns the targeted matrices on, in float32 or more precise; keeps what they were."""
        freeze(model)
        trained = []
        for name, linear in linears(model, self.config.targets):
            weight_OI = linear.weight.detach()
            self._pretrained[name] = weight_OI.to("cpu", copy=True)
            linear.weight = nn.Parameter(weight_OI.to(wide(weight_OI.dtype)))
            trained.append(linear.weight)
        return [ParamGroup(trained, lr_scale=self.config.warmup_lr_scale)]

    def choose(self, linears: Mapping[str, nn.Linear], shapes: Shapes) -> dict[str, torch.Tensor]:
        """The largest changes over all matrices together; rewinds."""

        def change(name: str) -> torch.Tensor:
            weight_OI = linears[name].weight.detach()
            return weight_OI.to(wide(weight_OI.dtype)) - self._pretrained[name].to(weight_OI.device)

        found = largest(Made(linears, change), self.capacity(shapes).units)
        for name, linear in linears.items():
            weight_OI = self._pretrained.pop(name).to(linear.weight.device)
            linear.weight = nn.Parameter(weight_OI, requires_grad=False)
        return found

"""`peft:lora`: LoRA with all of peft's options, and LoRA+ (Hayou et al., 2024), which is a matter of rates."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from smt_bench.methods.base import ParamGroup
from smt_bench.methods.peft_tuners.method import PeftTuner, TargetedSettings
from smt_bench.methods.search import Span
from smt_bench.methods.settings import setting


@dataclass(frozen=True)
class LoraPlusSettings(TargetedSettings):
    """Settings of LoRA+.

    Attributes:
        lr_ratio: learning rate of B over that of A (LoRA+: 16); 1: LoRA.
    """

    lr_ratio: float = setting(1.0, above=0)


class LoraPlus(PeftTuner):
    """LoRA whose B may learn faster than its A."""

    Config = LoraPlusSettings

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """B's rate over A's."""
        return {"lr_ratio": Span(1.0, 32.0)}

    def groups(self, model: nn.Module) -> list[ParamGroup]:
        """A and B apart where their rates are; `lr` is A's."""
        assert isinstance(self.config, LoraPlusSettings)
        ratio = self.config.lr_ratio
        if ratio == 1:
            return super().groups(model)
        there = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        faster = [p for name, p in there if ".lora_B." in name]
        others = [p for name, p in there if ".lora_B." not in name]
        return [ParamGroup(others), ParamGroup(faster, lr_scale=ratio)]

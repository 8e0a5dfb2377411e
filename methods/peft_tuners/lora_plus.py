"""`peft:lora`: LoRA with all of peft's options, LoRA+ (Hayou et al., 2024), which is a matter of rates, and starts of our own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from smt_bench.methods.base import Capacity, ParamGroup, Shapes
from smt_bench.methods.modules import freeze, linears
from smt_bench.methods.peft_tuners import starts
from smt_bench.methods.peft_tuners.method import PeftTuner
from smt_bench.methods.peft_tuners.settings import TargetedSettings
from smt_bench.methods.search import Span
from smt_bench.methods.settings import setting

EVA_STEPS = 4


@dataclass(frozen=True)
class LoraPlusSettings(TargetedSettings):
    """Settings of LoRA+.

    Attributes:
        lr_ratio: learning rate of B over that of A (LoRA+: 16); 1: LoRA.
        eva_steps: first steps, whose inputs EVA looks at; they train nothing. Read where `init_lora_weights` is "eva".
    """

    lr_ratio: float = setting(1.0, above=0)
    eva_steps: int = setting(EVA_STEPS, at_least=1)

    def to_dict(self) -> dict[str, Any]:
        """As every config; EVA's steps only where they are read, so that keys of before stay."""
        plain = super().to_dict()
        if dict(self.options).get("init_lora_weights") != "eva":
            if self.eva_steps != EVA_STEPS:
                raise ValueError(f"eva_steps={self.eva_steps}: only init_lora_weights=eva reads it: leave it out")
            del plain["eva_steps"]
        return plain


class LoraPlus(PeftTuner):
    """LoRA whose B may learn faster than its A, from any start."""

    Config = LoraPlusSettings
    starts = ("eva", "loftq")

    def __init__(self, config: LoraPlusSettings, fraction: float | None, seed: int, steps: int) -> None:
        super().__init__(config, fraction, seed, steps)
        self._inputs: starts.Inputs | None = None
        self._seen: dict[str, Any] | None = None

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """B's rate over A's."""
        return {"lr_ratio": Span(1.0, 32.0)}

    def check(self) -> None:
        """EVA has to leave steps that train; LoftQ needs its library, and DoRA's magnitudes would be of another base."""
        super().check()
        if self.begins == "eva" and self.warmup_steps >= self.steps:
            raise ValueError(f"eva_steps={self.warmup_steps}: choose fewer than the {self.steps} steps of the run")
        if self.begins == "loftq":
            if dict(self.config.options).get("use_dora"):
                raise ValueError("init_lora_weights='loftq': not with use_dora: leave one of them out")
            starts.check_loftq()

    @property
    def warmup_steps(self) -> int:
        """EVA's, which only look."""
        assert isinstance(self.config, LoraPlusSettings)
        return self.config.eva_steps if self.begins == "eva" else 0

    def capacity(self, shapes: Shapes) -> Capacity:
        """As every tuner; EVA's steps keep a float32 sum per distinct input of a block."""
        found = super().capacity(shapes)
        return replace(found, kept=4 * starts.numbers(self.layers(shapes))) if self.begins == "eva" else found

    def warmup(self, model: nn.Module) -> list[ParamGroup]:
        """Looks at the inputs of the layers that get an adapter; nothing trains."""
        freeze(model)
        assert isinstance(self.config, LoraPlusSettings)
        self._inputs = starts.Inputs(dict(linears(model, self.config.targets)), self._seen)
        return []

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Injects the adapters and gives them their start; resumed ones have theirs already."""
        vectors = None
        if self._inputs is not None:
            rank = self.capacity({name: tuple(p.shape) for name, p in model.named_parameters()}).units
            vectors, self._inputs, self._seen = self._inputs.close(rank, self.average), None, None
        groups = super().attach(model)
        if vectors is not None:
            starts.eva(model, vectors)
        if self.begins == "loftq":
            starts.loftq(model)
        return groups

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

    def state_dict(self) -> dict[str, Any]:
        """What EVA has seen so far."""
        return {} if self._inputs is None else self._inputs.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._seen = state or None

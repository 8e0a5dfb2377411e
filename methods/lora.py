"""LoRA (Hu et al., 2021) and DoRA (Liu et al., 2024), both from the `peft` library, with the papers' settings.

    y = W x + (alpha / r) B A x;   DoRA: the same direction, rescaled per output by a trained magnitude

Rank r costs r (I + O) numbers per targeted matrix; DoRA adds O magnitudes. Default targets are q, k, v, up and down: rank
32 on LLaMA-7B is then 0.833 % (DoRA 0.846 %), the papers' printed 0.83 and 0.84, which all seven modules would not give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from smt_bench.methods.base import Shapes
from smt_bench.methods.peft_tuners import sizes
from smt_bench.methods.peft_tuners.method import PeftTuner
from smt_bench.methods.peft_tuners.settings import TargetedSettings
from smt_bench.methods.search import Span
from smt_bench.methods.settings import setting


@dataclass(frozen=True)
class LoraSettings(TargetedSettings):
    """Settings of LoRA and DoRA.

    Attributes:
        targets: layers that get an adapter.
        alpha_per_rank: alpha = this x rank (the paper: 2).
        dropout: on the adapter's input.
    """

    alpha_per_rank: float = setting(2.0, above=0)
    dropout: float = setting(0.05, at_least=0, below=1)
    tuner = "lora"
    ours = {
        "lora_alpha": "the setting is called alpha_per_rank",
        "lora_dropout": "the setting is called dropout",
        "use_dora": "that is the method dora",
    }


class Lora(PeftTuner):
    """Low-rank adapters beside frozen matrices."""

    name = "lora"
    version = 1
    summary = "low-rank adapters (peft)"
    title = "LoRA"
    look = ("#0072B2", "^")
    order = 10
    Config = LoraSettings
    tuner = "lora"
    use_dora: ClassVar[bool] = False

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """Alpha and dropout."""
        return {"alpha_per_rank": Span(0.25, 8.0), "dropout": Span(0.0, 0.2, log=False)}

    def fields(self, units: int, layers: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Rank and alpha in the papers' proportion."""
        assert isinstance(self.config, LoraSettings)
        papers = {
            "lora_alpha": self.config.alpha_per_rank * units,
            "lora_dropout": self.config.dropout,
            "use_dora": self.use_dora,
        }
        return super().fields(units, layers) | papers

    def _counted(self, units: int, layers: Mapping[str, tuple[int, ...]], shapes: Shapes) -> int:
        """By the formula, for which peft's config, two seconds of imports, is not needed."""
        if self.config.options:
            return super()._counted(units, layers, shapes)
        return sizes.lora([(shape[0], shape[1]) for shape in layers.values()], units, self)

    def describe(self) -> dict[str, Any]:
        """Nothing: the settings say it all."""
        return {}


class Dora(Lora):
    """LoRA on directions, with a trained magnitude per output."""

    name = "dora"
    version = 1
    summary = "weight-decomposed low-rank adapters (peft)"
    title = "DoRA"
    look = ("#CC79A7", "D")
    order = 30
    use_dora = True

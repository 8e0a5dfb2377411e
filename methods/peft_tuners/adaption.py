"""`peft:adaption_prompt`, LLaMA-Adapter (Zhang et al., 2023): prompts that the attention of the last layers sees through a gate.

Each of the chosen layers has a prompt of A tokens of H numbers and a gate, zero at first. Nothing can be merged. Peft knows the
attention of LLaMA, Mistral and GPT-2 only, and says so once it sees the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import ParamGroup, Shapes
from smt_bench.methods.modules import freeze, targeted
from smt_bench.methods.peft_tuners import options
from smt_bench.methods.peft_tuners.method import PeftTuner
from smt_bench.methods.peft_tuners.virtual import MOST


class AdaptionPrompt(PeftTuner):
    """Gated prompts inside the attention."""

    def layers(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """The layers that make queries, one in every attention."""
        return dict(targeted(shapes, ["q_proj"]))

    def values(self, layers: Mapping[str, tuple[int, ...]]) -> range:
        """1 to as many as virtual tokens."""
        return range(1, MOST + 1)

    def fields(self, units: int, layers: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """All layers, where not fewer are asked for."""
        found = {"adapter_layers": len(layers)} | super().fields(units, layers)
        if not 1 <= found["adapter_layers"] <= len(layers):
            raise ValueError(
                f"adapter_layers={found['adapter_layers']}: the model has {len(layers)}: choose at most as many"
            )
        return found

    def _counted(self, units: int, layers: Mapping[str, tuple[int, ...]], shapes: Shapes) -> int:
        hidden = next(iter(layers.values()))[1]
        return int(self.fields(units, layers)["adapter_layers"]) * (units * hidden + 1)

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Puts peft's attention around the model's own; float32 beside half-precision weights, as the gate is tiny."""
        from peft.tuners.adaption_prompt import AdaptionPromptModel
        from peft.tuners.adaption_prompt.config import prepare_config

        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        layers, units = self.layers(shapes), self.capacity(shapes).units
        self._fields = self.fields(units, layers)
        config = prepare_config(options.made(self.tuner, self._fields), model)
        freeze(model)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._injected = AdaptionPromptModel(model, {"default": config}, "default")
        trainable = [p for p in model.parameters() if p.requires_grad]
        for parameter in trainable:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        for attention in (module for module in model.modules() if hasattr(module, "adaption_prompt")):
            for layer in attention.modules():
                if isinstance(layer, nn.Linear) and layer.weight.dtype.itemsize < 4:
                    _take_prompts(layer)
        return [ParamGroup(trainable)]


def _take_prompts(layer: nn.Linear) -> None:
    """Lets a layer in half precision take prompts in float32, which peft sends through those that make keys and values."""
    prompts: list[bool] = []

    def before(_layer: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        prompts[:] = [args[0].dtype == torch.float32]
        return (args[0].to(layer.weight.dtype), *args[1:])

    def after(_layer: nn.Module, _args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output.float() if prompts[0] else output

    layer.register_forward_pre_hook(before)
    layer.register_forward_hook(after)

"""LoRA (Hu et al., 2021) and DoRA (Liu et al., 2024), both from the `peft` library.

    y = W x + (alpha / r) B A x;   DoRA: the same direction, rescaled per output by a trained magnitude

Rank r costs r (I + O) numbers per targeted matrix; DoRA adds O magnitudes. Default targets are q, k, v, up and down: rank
32 on LLaMA-7B is then 0.833 % (DoRA 0.846 %), the papers' printed 0.83 and 0.84, which all seven modules would not give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import nn

from smt_bench.methods.base import Capacity, Method, MethodConfig, ParamGroup, Shapes
from smt_bench.methods.modules import freeze, linears, replace_module, targeted, total_parameters
from smt_bench.methods.settings import setting


@dataclass(frozen=True)
class LoraSettings(MethodConfig):
    """Settings of LoRA and DoRA.

    Attributes:
        targets: layers that get an adapter.
        alpha_per_rank: alpha = this x rank (the paper: 2).
        dropout: on the adapter's input.
    """

    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")
    alpha_per_rank: float = setting(2.0, above=0)
    dropout: float = setting(0.05, at_least=0, below=1)

    @property
    def layers(self) -> tuple[str, ...]:
        """The targets."""
        return self.targets

    def with_layers(self, layers: tuple[str, ...]) -> Self:
        """With other targets."""
        return replace(self, targets=layers)


class Lora(Method[LoraSettings]):
    """Low-rank adapters beside frozen matrices."""

    name = "lora"
    version = 1
    summary = "low-rank adapters (peft)"
    title = "LoRA"
    look = ("#0072B2", "^")
    order = 10
    Config = LoraSettings
    use_dora: ClassVar[bool] = False

    def capacity(self, shapes: Shapes) -> Capacity:
        """Rank r, the whole number nearest to the requested fraction."""
        assert self.fraction is not None
        matrices = targeted(shapes, self.config.targets)
        total = total_parameters(shapes)
        fixed = sum(o for o, _ in matrices.values()) if self.use_dora else 0
        per_rank = sum(o + i for o, i in matrices.values())
        rank = round((self.fraction * total - fixed) / per_rank)
        largest = max(min(shape) for shape in matrices.values())
        if rank < 1:
            raise ValueError(
                f"fraction {self.fraction:.4%} is less than rank 1 ({(fixed + per_rank) / total:.4%}) of {self.name} on "
                f"{', '.join(self.config.targets)}: choose a larger fraction"
            )
        if rank > largest:
            raise ValueError(
                f"fraction {self.fraction:.4%} needs rank {rank}, but no matrix of {', '.join(self.config.targets)} has more "
                f"than {largest} rows or columns: choose at most {(fixed + per_rank * largest) / total:.2%}"
            )
        return Capacity("rank", rank, fixed + rank * per_rank, per_rank, total)

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Injects adapters in place; seeded apart from the global state, so that no other draw moves their start."""
        from peft import LoraConfig, inject_adapter_in_model

        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        rank = self.capacity(shapes).units
        config = LoraConfig(
            r=rank,
            lora_alpha=self.config.alpha_per_rank * rank,  # type: ignore[arg-type]  # peft only divides by it
            lora_dropout=self.config.dropout,
            target_modules=[name for name, _ in linears(model, self.config.targets)],
            use_dora=self.use_dora,
            bias="none",
        )
        freeze(model)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            # Of a model that peft knows by its type it rewrites the targets, e.g. up_proj of a shared expert to the matrices of
            # all experts: it gets a module without a type, and layers by their full names.
            inject_adapter_in_model(config, nn.ModuleDict({"model": model}))
        trainable = [p for p in model.parameters() if p.requires_grad]
        for parameter in trainable:
            # Adapters of half-precision models train in float32, peft's own default for `get_peft_model`.
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        return [ParamGroup(trainable)]

    def merge(self, model: nn.Module) -> None:
        """Folds B A into W and puts the plain layers back."""
        from peft.tuners.lora import LoraLayer

        for name, module in list(model.named_modules()):
            if isinstance(module, LoraLayer):
                with torch.no_grad():
                    module.merge()
                replace_module(model, name, module.get_base_layer())


class Dora(Lora):
    """LoRA on directions, with a trained magnitude per output."""

    name = "dora"
    version = 1
    summary = "weight-decomposed low-rank adapters (peft)"
    title = "DoRA"
    look = ("#CC79A7", "D")
    order = 30
    use_dora = True

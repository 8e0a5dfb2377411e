"""SpIEL-AG on a two-layer LLaMA, step by step."""

from __future__ import annotations

import math
from typing import Any

import torch
from labelled import labelled
from torch import nn

from smt_bench.machine import parallel
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.spiel.method import Spiel, SpielConfig
from smt_bench.training.optimizer import TorchUpdater, Updater
from smt_bench.training.step import Step

VOCAB = 128
LR = 1e-2


def llama(dtype: torch.dtype = torch.float32) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM  # here, to keep it out of the child processes

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(dtype).train()


def batches(steps: int, size: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(VOCAB, (size, 12), generator=generator) for _ in range(steps)]


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def start(model: nn.Module, fraction: float = 0.03, steps: int = 14, seed: int = 3, **config: Any) -> tuple[Spiel, Any]:
    values = {"update_every": 4, "estimate_steps": 2, "replace_rate": 0.5, **config}
    method = Spiel(SpielConfig(**values), fraction, seed, steps)
    method.set_average(parallel.averaged)
    groups = [{"params": g.params, "lr": LR, "weight_decay": g.weight_decay} for g in method.attach(model)]
    return method, method.optimizer(groups, OptimizerSettings(lr=LR))


class Around(TorchUpdater):
    """Training's updater around an optimizer that is there already."""

    def __init__(self, model: Any, optimizer: Any) -> None:
        Updater.__init__(self, model, [p for group in optimizer.param_groups for p in group["params"]])
        self.optimizer, self.max_grad_norm, self._masters = optimizer, math.inf, []
        self._peaks = [LR for _ in optimizer.param_groups]


def one_step(model: Any, method: Spiel, optimizer: Any, ids: torch.Tensor, step: int, micro: int = 1) -> float:
    parts = [labelled(part) for part in ids.chunk(micro)]
    return Step("tuning", model, method, Around(model, optimizer)).take(step, parts, 1.0).loss


def train(model: Any, method: Spiel, optimizer: Any, data: list[torch.Tensor], first: int = 1, micro: int = 1) -> None:
    for step, ids in enumerate(data, first):
        one_step(model, method, optimizer, ids, step, micro)


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def state_of(method: Spiel, optimizer: Any, layer: Any) -> dict[str, torch.Tensor]:
    """The optimizer's state of one layer's deltas: slices of that of all deltas together."""
    whole, first = method._flat.whole_of(layer.deltas)
    return {name: value[first : first + len(layer.deltas)] for name, value in optimizer.state[whole].items()}

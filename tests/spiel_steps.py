"""SpIEL-AG on a two-layer LLaMA, step by step, without the engine."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.spiel.method import Spiel, SpielConfig

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
    groups = [{"params": g.params, "lr": LR, "weight_decay": g.weight_decay} for g in method.attach(model)]
    return method, method.optimizer(groups, OptimizerSettings(lr=LR))


def one_step(model: Any, method: Spiel, optimizer: Any, ids: torch.Tensor, step: int, micro: int = 1) -> float:
    method.before_step(model, step)
    total = 0.0
    for part in ids.chunk(micro):
        loss = model(input_ids=part, labels=part).loss / micro
        loss.backward()
        total += loss.item()
    method.after_backward(model, step)
    optimizer.step()
    method.after_step(model, optimizer, step)
    optimizer.zero_grad()
    return total


def train(model: Any, method: Spiel, optimizer: Any, data: list[torch.Tensor], first: int = 1, micro: int = 1) -> None:
    for step, ids in enumerate(data, first):
        one_step(model, method, optimizer, ids, step, micro)


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)

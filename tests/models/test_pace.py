"""The speed of a forward pass is measured without leaving a trace."""

from __future__ import annotations

import torch
from helpers import tiny_llama

from smt_bench.models.pace import SEQUENCES, TOKENS, tokens_per_second


def test_measuring_leaves_mode_and_random_numbers_as_they_were() -> None:
    model, before = tiny_llama(), torch.get_rng_state()
    model.train()
    seen: list[tuple[int, ...]] = []
    model.model.register_forward_pre_hook(
        lambda _module, _args, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    assert tokens_per_second(model) > 0
    assert model.training and torch.equal(before, torch.get_rng_state())
    assert seen == [(SEQUENCES, TOKENS)] * 4 and all(p.grad is None for p in model.parameters())


def test_a_model_of_few_positions_gets_no_more_tokens() -> None:
    assert tokens_per_second(tiny_llama(max_position_embeddings=8)) > 0

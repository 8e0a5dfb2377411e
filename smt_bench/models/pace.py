"""Tokens per second of a model's forward pass: what an adapter costs as long as it is not folded in."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from smt_bench.models.precision import mixed

SEQUENCES, TOKENS = 4, 64
REPEATS = 3  # timed, after one that is not


@torch.no_grad()
def tokens_per_second(model: Any) -> float:
    """Of a batch of `SEQUENCES` x `TOKENS` random tokens, without a cache; the median of `REPEATS` passes.

    The model is in evaluation mode meanwhile; no random numbers but its own are drawn.
    """
    embedding = model.get_input_embeddings().weight
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or TOKENS
    shape = (SEQUENCES, min(TOKENS, limit))
    ids_BT = torch.randint(len(embedding), shape, generator=torch.Generator().manual_seed(0)).to(embedding.device)
    training, seconds = model.training, []
    model.eval()
    try:
        with mixed(model):
            for _ in range(1 + REPEATS):
                _wait(ids_BT)
                start = time.perf_counter()
                model(input_ids=ids_BT, use_cache=False)
                _wait(ids_BT)
                seconds.append(time.perf_counter() - start)
    finally:
        model.train(training)
    return round(shape[0] * shape[1] / statistics.median(seconds[1:]), 3)


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)

"""Random weights and tokens: for time and memory only sizes matter."""

from __future__ import annotations

from typing import Any

import torch

from smt_bench.data.batches import Batch
from smt_bench.data.prompts import IGNORED
from smt_bench.models import build
from smt_bench.models.quantized import quantize


def random_model(
    name: str, precision: str, device: torch.device, seed: int, layers: int | None = None, base: str = ""
) -> Any:
    """The architecture with random weights, made in "fp32" or "bf16": never in more bytes than it keeps.

    Args:
        name: of the model.
        precision: of the weights.
        device: where they are made.
        seed: of them.
        layers: so many instead of the model's own.
        base: "nf4": the linear layers are quantized, once all are made.
    """
    torch.manual_seed(seed)
    if precision == "bf16":
        made = build.build(name, str(device), layers, torch.bfloat16)
    else:
        made = build.build(name, str(device), layers).float()
    return quantize(made) if base else made


def random_batch(model: str, batch_size: int, length: int, seed: int, device: torch.device) -> Batch:
    """(B, T) random tokens of the model's vocabulary, every position but the last with a label."""
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(build.config(model).get_text_config().vocab_size, (batch_size, length), generator=generator)
    labels_BT = torch.full_like(ids_BT, IGNORED)
    labels_BT[:, :-1] = ids_BT[:, 1:]
    return Batch(ids_BT.to(device), labels_BT.to(device), batch_size * (length - 1), ids_BT.numel())

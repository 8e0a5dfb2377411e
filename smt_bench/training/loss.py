"""The loss of a step, and activations that are recomputed instead of kept."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from smt_bench.data.batches import Batch
from smt_bench.models.logits import labelled_logits
from smt_bench.models.precision import mixed


def enable_checkpointing(model: Any, **options: Any) -> None:
    """Recomputes each layer's activations in the backward pass, where one is needed at all.

    Args:
        model: a Hugging Face model.
        **options: more of `torch.utils.checkpoint`'s.
    """
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False, **options})
    # transformers makes the embeddings ask for gradients, as reentrant checkpointing needs: a backward pass would then run
    # through every layer, also where nothing below trains.
    model.disable_input_require_grads()


def response_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Summed cross-entropy over the labelled positions, in nats; softmax in float32, see `models.precision` for the rest."""
    with mixed(model):
        logits = labelled_logits(model, batch.ids_BT, batch.places_N)
        return F.cross_entropy(logits.float(), batch.labels_N.to(logits.device), reduction="sum")

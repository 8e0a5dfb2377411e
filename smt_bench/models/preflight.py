"""What is asked of a model before anything is trained: that it is a causal one, whole, and that a method takes hold of it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from smt_bench.methods.base import Capacity, Method
from smt_bench.methods.modules import linears
from smt_bench.models.merging import unlike

_TOKENS = 12


def check_config(name: str, config: Any) -> None:
    """Refuses what the configuration already tells: quantized weights, a model that reads both ways.

    Raises:
        ValueError: what, and the remedy.
    """
    if getattr(config, "quantization_config", None):
        kind = config.quantization_config
        kind = kind.get("quant_method", "unknown") if isinstance(kind, dict) else type(kind).__name__
        raise ValueError(
            f"model {name}: its config.json names quantized weights ({kind}), which are not trained here: take the model they "
            "were made of"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"model {name}: {config.model_type} is an encoder with a decoder: choose a causal language model"
        )
    if getattr(config.get_text_config(), "is_decoder", None) is False:
        raise ValueError(
            f"model {name}: {config.model_type} reads both ways (is_decoder is false): choose a causal language model"
        )


@torch.no_grad()
def check_causal(name: str, model: Any) -> None:
    """Refuses a model whose predictions depend on later tokens; a few tokens are put through it.

    Args:
        name: the model's, for the message.
        model: with weights.

    Raises:
        ValueError: it looks ahead.
    """
    embedding = model.get_input_embeddings().weight
    ids_BT = torch.randint(len(embedding), (2, _TOKENS), generator=torch.Generator().manual_seed(0))
    ids_BT[1, : _TOKENS // 2] = ids_BT[0, : _TOKENS // 2]  # the same beginning, another end
    training = model.training
    model.eval()
    try:
        logits = model(input_ids=ids_BT.to(embedding.device), use_cache=False).logits[:, : _TOKENS // 2].float()
    finally:
        model.train(training)
    moved = unlike(logits[0], logits[1])
    if moved > 0.05:  # rounding in bfloat16 makes some thousandths
        raise ValueError(
            f"model {name}: its predictions depend on later tokens (logits move by {moved:.2g} of their size): it is not "
            "a causal language model"
        )


def check_attached(method: Method, capacity: Capacity, outline: Any) -> None:
    """Attaches a method to a model without storage: it must train as many numbers as planned, and the loss must reach them.

    A method with a warm-up chooses later what it attaches to; of it the layers are looked at.

    Args:
        method: of the run, used for nothing else afterwards.
        capacity: what was planned.
        outline: the model without storage; changed.

    Raises:
        ValueError: it does not take hold; which numbers, and why.
    """
    layers = method.config.layers
    if method.warmup_steps:
        outline.requires_grad_(False)
        for _, linear in linears(outline, layers):
            linear.weight.requires_grad_(True)
    else:
        try:
            method.attach(outline)
        except (NotImplementedError, RuntimeError, TypeError, AttributeError, KeyError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise ValueError(
                f"{method.name} does not attach to {type(outline).__name__} ({why}): leave it out"
            ) from None
        trained = sum(p.numel() for p in outline.parameters() if p.requires_grad)
        if trained != capacity.trainable:
            raise ValueError(
                f"{method.name}: {trained:,} numbers would train on {type(outline).__name__}, {capacity.trainable:,} were "
                "planned: leave it out"
            )
    if lost := unreached(outline):
        raise ValueError(
            f"{method.name}: no gradient reaches {lost[0]}" + (f" and {len(lost) - 1} more" if lost[1:] else "")
            + ": choose other targets"
        )  # fmt: skip


def unreached(outline: Any) -> list[str]:
    """Parameters that train, of a model without storage, and that no gradient of its logits reaches.

    Nothing where the model cannot be followed without storage: training then says it in its first step.
    """
    from transformers.utils import logging

    outline.to(torch.bfloat16)  # the type that products of experts have a shape rule for
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with contextlib.suppress(ValueError):
            outline.set_attn_implementation("eager")  # others look at the mask's values
        ids_BT = torch.zeros(1, _TOKENS, dtype=torch.long, device="meta")
        for mask in (torch.zeros(1, 1, _TOKENS, _TOKENS, device="meta", dtype=torch.bfloat16), None):
            try:
                outline(input_ids=ids_BT, attention_mask=mask, use_cache=False).logits.sum().backward()
                return [name for name, p in outline.named_parameters() if p.requires_grad and p.grad is None]
            except (ValueError, RuntimeError, NotImplementedError, IndexError, TypeError):
                outline.zero_grad()
    finally:
        logging.set_verbosity(verbosity)
    return []

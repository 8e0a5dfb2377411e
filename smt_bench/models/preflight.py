"""What is asked of a model before anything is trained: that it is a causal one, whole, and that a method takes hold of it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from smt_bench.methods.base import Capacity, Method
from smt_bench.methods.modules import linears
from smt_bench.models.merging import TOLERANCE, unlike

_TOKENS = 12
# Encoders that transformers also offers as decoders: which of the two, `is_decoder` says. Others have the word and ignore it.
ENCODERS = frozenset(
    (
        "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "reformer",
        "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod",
    )
)  # fmt: skip
PERMUTED = frozenset(("cpmant", "xlnet"))  # never causal, though transformers lists them among the causal models


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
    kind = config.model_type
    why = ""
    if kind in ENCODERS and not config.is_decoder:
        why = " (is_decoder is false)"
    elif kind == "xlm" and not config.causal:
        why = " (causal is false)"
    if why or kind in PERMUTED:
        raise ValueError(f"model {name}: {kind} reads both ways{why}: choose a causal language model")


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
    if moved > TOLERANCE[model.dtype]:
        raise ValueError(
            f"model {name}: its predictions depend on later tokens (logits move by {moved:.2g} of their size): it is not "
            "a causal language model"
        )


def check_attached(method: Method, capacity: Capacity, outline: Any) -> None:
    """Attaches a method to a model without storage: it must train as many numbers as planned, and the loss must reach them.

    A method with a warm-up chooses later what it attaches to; of it the layers are looked at. Where the model cannot be followed
    without storage, reach is not looked at.

    Args:
        method: of the run, used for nothing else afterwards.
        capacity: what was planned.
        outline: the model without storage; changed.

    Raises:
        ValueError: it does not take hold; which numbers, and why.
    """
    kind = type(outline).__name__
    outline.to(torch.bfloat16)  # the type that products of experts have a shape rule for
    plain, _ = _logits(outline)
    if method.warmup_steps:
        outline.requires_grad_(False)
        for _, linear in linears(outline, method.config.layers):
            linear.weight.requires_grad_(True)
    else:
        try:
            method.attach(outline)
        except RuntimeError:  # some operations need storage (PiSSA's decomposition of the weights): that says nothing
            return
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise ValueError(f"{method.name} does not attach to {kind} ({_line(error)}): leave it out") from None
        trained = sum(p.numel() for p in outline.parameters() if p.requires_grad)
        if trained != capacity.trainable:
            raise ValueError(
                f"{method.name}: {trained:,} numbers would train on {kind}, {capacity.trainable:,} were planned: leave it out"
            )
    found, why = _logits(outline)
    if found is None and plain is not None and why:
        raise ValueError(f"{method.name} does not work in {kind} ({why}): leave it out")
    if found is None:
        return
    if found.requires_grad:
        found.sum().backward()
    lost = [name for name, p in outline.named_parameters() if p.requires_grad and p.grad is None]
    if lost and not method.trains_dense:  # who trains everything trains what images would need, too
        more = f" and {len(lost) - 1} more" if lost[1:] else ""
        raise ValueError(f"{method.name}: no gradient reaches {lost[0]}{more}: choose other targets")


def _logits(outline: Any) -> tuple[torch.Tensor | None, str]:
    """What a model without storage gives for a few tokens; None where it cannot be followed, with what the code said of it."""
    from transformers.utils import logging

    verbosity, why = logging.get_verbosity(), ""
    logging.set_verbosity_error()
    try:
        with contextlib.suppress(ValueError):
            outline.set_attn_implementation("eager")  # others look at the mask's values
        ids_BT = torch.zeros(1, _TOKENS, dtype=torch.long, device="meta")
        # Masks are made by looking at values, unless they are given; some models take them in one form, some in the other.
        whole = torch.zeros(1, 1, _TOKENS, _TOKENS, device="meta", dtype=torch.bfloat16)
        for mask in (whole, torch.ones(1, _TOKENS, dtype=torch.long, device="meta"), None):
            try:
                logits: torch.Tensor = outline(input_ids=ids_BT, attention_mask=mask, use_cache=False).logits
                return logits, ""
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                why = why or _line(error)
            except RuntimeError:  # some operations need storage: that says nothing of the model
                pass
    finally:
        logging.set_verbosity(verbosity)
    return None, why


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]

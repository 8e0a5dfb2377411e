"""Log-likelihood of held-out responses: what separates methods on models too small for accuracy to do it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from smt_bench.data.batches import labelled
from smt_bench.data.cut import response_tokens
from smt_bench.data.prompts import IGNORED, Example, encode
from smt_bench.evaluation.lm_eval_model import eval_mode
from smt_bench.evaluation.protocols import finite
from smt_bench.machine.watch import Progress
from smt_bench.models.logits import labelled_logits
from smt_bench.models.precision import mixed


def response_loglik(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    template: str,
    cutoff: int,
    batch_size: int,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Log-likelihood of each held-out response given its prompt, teacher-forced, in one pass.

    Logits are computed at response positions only: a hook hands the output layer just these rows, so that whatever an
    architecture does to its logits afterwards (scaling, soft-capping) stays in effect.

    Args:
        model: a Hugging Face causal language model, plain or with modules replaced in place.
        tokenizer: its tokenizer.
        examples: prompts and responses; `output` is scored.
        template: name of the prompt template.
        cutoff: longest sequence in tokens, prompt and response together.
        batch_size: sequences per pass, batched by length.
        progress: called after every batch.

    Returns:
        In input order `loglik` (nats, summed over the response and the end-of-text token) and `tokens` (how many that
        are). `loglik` is None if the cutoff leaves no response (`tokens` is then 0) or if it is not finite.
    """
    encoded = [encode(example, tokenizer, template, train_on_inputs=False, cutoff=cutoff) for example in examples]
    counts = [response_tokens(item) for item in encoded]
    # Longest first: if memory does not suffice, that shows at once.
    order = sorted((i for i in range(len(encoded)) if counts[i]), key=lambda i: (-len(encoded[i].ids), i))
    results: list[dict[str, Any]] = [{"loglik": None, "tokens": count} for count in counts]
    done = len(examples) - len(order)
    with eval_mode(model), torch.no_grad(), mixed(model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            lengths = [len(encoded[i].ids) for i in batch]
            ids_BT = torch.zeros(len(batch), max(lengths), dtype=torch.long)  # the mask hides what pads
            labels_BT = torch.full_like(ids_BT, IGNORED)
            mask_BT = torch.zeros_like(ids_BT)
            for row, (i, length) in enumerate(zip(batch, lengths)):
                ids_BT[row, :length] = torch.tensor(encoded[i].ids)
                labels_BT[row, :length] = torch.tensor(encoded[i].labels)
                mask_BT[row, :length] = 1
            logliks_N = _label_logliks(model, ids_BT, mask_BT, labels_BT)
            for i, part in zip(batch, logliks_N.split([counts[i] for i in batch])):
                results[i]["loglik"] = finite(part.sum().item())
            done += len(batch)
            if progress:
                progress("response log-likelihood", done, len(examples))
    return results


def _label_logliks(model: Any, ids_BT: Tensor, mask_BT: Tensor, labels_BT: Tensor) -> Tensor:
    """Log-likelihoods (N,), float64, of the N labelled tokens, row by row; softmax in float32."""
    shifted_BT = functional.pad(labels_BT[:, 1:], (0, 1), value=IGNORED)  # what to predict from each position
    places_N, targets_N = labelled(shifted_BT)
    logits = labelled_logits(model, ids_BT.to(model.device), places_N, mask_BT.to(model.device))
    return -functional.cross_entropy(logits.float(), targets_N.to(logits.device), reduction="none").double().cpu()


def mean_nll(examples: Sequence[dict[str, Any]]) -> float | None:
    """Mean negative log-likelihood per response token (nats), over all tokens of `response_loglik`'s examples together.

    None where no response fitted into the cut-off; NaN (a run has then diverged) where one is not finite.
    """
    scored = [e for e in examples if e["tokens"]]
    tokens = sum(e["tokens"] for e in scored)
    finite = all(e["loglik"] is not None for e in scored)
    total = sum(e["loglik"] for e in scored) if finite else math.nan
    return -total / tokens if tokens else None


def summary(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A record's `heldout`: the mean, and every example."""
    return {
        "nll": mean_nll(examples),
        "examples": {
            "loglik": [None if e["loglik"] is None else round(e["loglik"], 6) for e in examples],
            "tokens": [e["tokens"] for e in examples],
        },
    }

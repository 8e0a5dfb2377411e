"""Logits at labelled positions only; used in training and in judging."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from smt_bench.data.prompts import IGNORED


def labelled_logits(
    model: Any, ids_BT: Tensor, labels_BT: Tensor, mask_BT: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Runs the model with its output layer restricted to the N labelled positions.

    With a masked prompt and a large vocabulary most logits of a plain forward pass would be thrown away. A hook hands the
    output layer the wanted rows, so that whatever an architecture does to its logits (scaling, soft-capping) stays.

    Args:
        model: a Hugging Face causal language model.
        ids_BT: token ids.
        labels_BT: the token to predict from each position (already shifted), `IGNORED` where there is none.
        mask_BT: attention mask; not needed where padding stands on the right.

    Returns:
        Logits (N, vocabulary) and labels (N,), row by row, on the logits' device.
    """
    wanted_BT = labels_BT != IGNORED

    def keep_wanted(_module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][wanted_BT.to(args[0].device)][None], *args[1:])  # (B, T, hidden) to (1, N, hidden)

    hook = model.get_output_embeddings().register_forward_pre_hook(keep_wanted)
    try:
        logits = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits[0]
    finally:
        hook.remove()
    return logits, labels_BT[wanted_BT].to(logits.device)

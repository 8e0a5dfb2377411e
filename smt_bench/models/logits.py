"""Logits at labelled positions only; used in training and in judging."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def labelled_logits(model: Any, ids_BT: Tensor, places_N: Tensor, mask_BT: Tensor | None = None) -> Tensor:
    """Runs the model with its output layer restricted to the N labelled positions.

    With a masked prompt and a large vocabulary most logits of a plain forward pass would be thrown away. A hook hands the
    output layer the wanted rows, so that whatever an architecture does to its logits (scaling, soft-capping) stays.

    Args:
        model: a Hugging Face causal language model.
        ids_BT: token ids.
        places_N: where in the flattened batch there is something to predict.
        mask_BT: attention mask; not needed where padding stands on the right.

    Returns:
        Logits (N, vocabulary).
    """

    def keep_wanted(_module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = args[0].flatten(0, 1)  # (B, T, hidden) to (1, N, hidden)
        return (hidden.index_select(0, places_N.to(hidden.device))[None], *args[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(keep_wanted)
    try:
        logits: Tensor = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits[0]
    finally:
        hook.remove()
    return logits

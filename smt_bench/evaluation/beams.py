"""What one prompt takes while it is answered: for the gate, and for how many are answered at a time."""

from __future__ import annotations

from typing import Any

HIDDEN = 8  # hidden states of one layer alive together: input, norm, queries, attention, two sums, ...


def prompt_bytes(config: Any, beams: int, length: int, element: int, generates: bool) -> int:
    """Bytes that one prompt takes while it is answered: keys and values of every beam, hidden states, logits in float32.

    Args:
        config: the model's.
        beams: of the search for an answer.
        length: tokens of the longest prompt, with room for its answer.
        element: bytes of a number of the model.
        generates: whether answers are generated; options are scored without a cache.
    """
    text = getattr(config, "text_config", None) or config
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    kept = 2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * width
    hidden = HIDDEN * text.hidden_size + 2 * (getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
    if not generates:
        return int(length * (element * hidden + 8 * text.vocab_size))  # of every position, and their log-softmax
    # Reordering the beams copies the cache.
    return int(beams * (length * element * (2 * kept + hidden) + 8 * text.vocab_size))

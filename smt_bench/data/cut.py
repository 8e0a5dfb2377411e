"""What the cut-off leaves of responses: a record without any of its response teaches nothing and measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smt_bench.data.example import Plain
from smt_bench.data.prompts import IGNORED, Encoded, Example, encode, token_ids
from smt_bench.machine.watch import Progress

_EVERY = 1000  # examples between two reports of progress


def response_tokens(item: Encoded) -> int:
    """Tokens of the response (and the end of text) that are predicted; the first of all has nothing before it.

    Args:
        item: encoded with the prompt masked.
    """
    return sum(label != IGNORED for label in item.labels[1:])


def any_response(examples: Sequence[Example], tokenizer: Any, template: str, cutoff: int) -> bool:
    """Whether the cut-off leaves something of any response; stops at the first one."""
    return any(response_tokens(encode(e, tokenizer, template, False, cutoff)) for e in examples)


def count(
    examples: Sequence[Example], tokenizer: Any, template: str, cutoff: int, progress: Progress | None = None
) -> dict[str, int]:
    """How many responses the cut-off meets, whatever the loss is on.

    Returns:
        `examples`; `empty`, those of whose response nothing is left; `shortened`, those that lose its end, or the end-of-text
        token alone.
    """
    empty = shortened = 0
    for done, example in enumerate(examples, start=1):
        if isinstance(example, Plain):  # has no end-of-text token to lose, and no response
            shortened += len(token_ids(tokenizer, example.output)) > cutoff
        else:
            item = encode(example, tokenizer, template, False, cutoff)
            left = response_tokens(item)
            empty += not left
            shortened += bool(left) and item.ids[-1] != tokenizer.eos_token_id
        if progress and not done % _EVERY:
            progress("cut-off", done, len(examples))
    return {"examples": len(examples), "empty": empty, "shortened": shortened}

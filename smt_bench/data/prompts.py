"""Prompt template, tokenisation and loss mask.

The template and the mask are those of the LLM-Adapters collection, whose numbers the papers compare with. Its training
script has two habits that change losses, kept here on purpose: every line after the first is indented by sixteen
spaces, and a linter comment stands inside the prompt. `train_on_inputs=True` (its default) puts the loss on prompt and
response; False masks the prompt, as SMT's reference code does. Both are part of a run's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

IGNORED = -100  # label value without loss, torch's cross_entropy default
_INDENT = " " * 16
_HEAD = "Below is an instruction that describes a task"
_TASK = "Write a response that appropriately completes the request.  # noqa: E501"


@dataclass(frozen=True)
class Example:
    """One record in the LLM-Adapters layout.

    Attributes:
        instruction: the question, with its options and answer format.
        input: further context, mostly empty.
        output: the response to learn.
        answer: the gold answer alone, e.g. "answer3", "true", "42".
    """

    instruction: str
    input: str
    output: str
    answer: str


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example and their labels (`IGNORED` where there is no loss), both of length T."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


def llm_adapters(example: Example) -> str:
    """The prompt of one example up to where the response starts."""
    context = ", paired with an input that provides further context" if example.input else ""
    lines = ["", "### Instruction:", example.instruction, ""]
    if example.input:
        lines += ["### Input:", example.input, ""]
    lines += ["### Response:", ""]
    # The blank line after the header carries no indentation in the original; the later ones do.
    return f"{_HEAD}{context}. {_TASK}\n" + "\n".join([lines[0]] + [_INDENT + line for line in lines[1:]])


TEMPLATES = {"llm-adapters": llm_adapters}


def prompt(example: Example, template: str) -> str:
    """The prompt under the named template."""
    return TEMPLATES[template](example)


def encode(example: Example, tokenizer: Any, template: str, train_on_inputs: bool, cutoff: int) -> Encoded:
    """Tokenises prompt + response + end-of-text, cut at `cutoff` tokens.

    As in LLM-Adapters the end-of-text token is left out where the text was cut, and the mask covers as many tokens as
    the prompt alone has.
    """
    head = prompt(example, template)
    ids = list(tokenizer(head + example.output).input_ids)[:cutoff]
    if len(ids) < cutoff and (not ids or ids[-1] != tokenizer.eos_token_id):
        ids.append(tokenizer.eos_token_id)
    masked = 0 if train_on_inputs else min(len(tokenizer(head).input_ids), len(ids))
    return Encoded(tuple(ids), tuple([IGNORED] * masked + ids[masked:]))

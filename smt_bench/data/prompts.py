"""Prompt templates, tokenisation and loss mask.

The template is that of the LLM-Adapters collection, whose numbers the papers compare with: the text of its scripts from
April 2023 on, which DoRA's copy shares. It has habits that change losses, kept here on purpose: every line after the first
is indented by sixteen spaces, and the evaluation scripts ask in other spaces than the training script trains on.
`train_on_inputs=True` (its default) puts the loss on prompt and response; False masks the prompt, as SMT's reference code
does. Template and mask are part of a run's key. Conversations have a template of their own, see `data.chat`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench.data import chat
from smt_bench.data.example import Chat, Example, Plain

__all__ = ["Encoded", "Example", "encode", "encode_after", "prompt", "question", "shared_start", "token_ids"]

IGNORED = -100  # label value without loss, torch's cross_entropy default
TEMPLATE = "llm-adapters-2023-04"  # of new runs
SMT_CODE = "smt-code"  # of SMT's released code
_INDENT = " " * 16
_HEAD = "Below is an instruction that describes a task"
_CONTEXT = ", paired with an input that provides further context"
_TASK = "Write a response that appropriately completes the request."


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example and their labels (`IGNORED` where there is no loss), both of length T."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Template:
    """A question's two renderings, each up to where the response starts.

    Attributes:
        training: what is trained on, and what held-out responses follow.
        evaluation: what test questions are asked in.
        marker: where a model has started a question of its own; its answer is cut there (LLM-Adapters splits at it).
    """

    training: Callable[[Example], str]
    evaluation: Callable[[Example], str]
    marker: str = "### Response:"


def _rendered(example: Example, end: str, blank: str) -> str:
    """The prompt, with `end` after its first line and `blank` on the empty lines between the later ones."""
    parts = [("Instruction", example.instruction)] + ([("Input", example.input)] if example.input else [])
    body = "".join(f"{_INDENT}### {name}:\n{_INDENT}{text}\n{blank}\n" for name, text in parts)
    return f"{_HEAD}{_CONTEXT if example.input else ''}. {_TASK}{end}\n\n{body}{_INDENT}### Response:\n{_INDENT}"


def training_prompt(example: Example) -> str:
    """As LLM-Adapters' `finetune.py` trains: spaces after the request, blank lines as deeply indented as the others."""
    return _rendered(example, " " if example.input else "  ", _INDENT)


def evaluation_prompt(example: Example) -> str:
    """As LLM-Adapters' `commonsense_evaluate.py` and `evaluate.py` ask: one space less, blank lines without any."""
    return _rendered(example, "" if example.input else " ", "")


def first_prompt(example: Example) -> str:
    """The collection's prompt of its first days, with a linter comment in it, for training and evaluation alike."""
    return _rendered(example, "  # noqa: E501", _INDENT)


def _code_prompt(text: str, spaces: str) -> str:
    """Without its literal "<s>": the scripts keep LLaMA's tokenizer from adding that token, here the tokenizer adds it."""
    return f"{_HEAD}. {_TASK}{spaces}\n\n### Instruction:\n{text}\n\n### Response:\n"


def code_training_prompt(example: Example) -> str:
    """As SMT's released `helper.py` trains: no indents, and a record's input stands in place of its instruction."""
    return _code_prompt(example.input or example.instruction, "  ")


def code_evaluation_prompt(example: Example) -> str:
    """As SMT's released `run_commonsense_parallel.py` asks: one space less, and always the instruction."""
    return _code_prompt(example.instruction, " ")


TEMPLATES = {
    TEMPLATE: Template(training_prompt, evaluation_prompt),
    SMT_CODE: Template(code_training_prompt, code_evaluation_prompt),
    "llm-adapters": Template(first_prompt, first_prompt),  # of older records; nothing new is planned with it
    chat.NAME: Template(chat.asked, chat.posed, chat.MARKER),
}


def prompt(example: Example, template: str) -> str:
    """The training prompt under the named template."""
    return TEMPLATES[template].training(example)


def question(example: Example, template: str) -> str:
    """The evaluation prompt under the named template."""
    return TEMPLATES[template].evaluation(example)


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text that goes on: without the end-of-text token that some tokenizers append."""
    ids = list(tokenizer(text).input_ids)
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def shared_start(tokenizer: Any, head: str, whole: Sequence[int]) -> tuple[str, int] | None:
    """How much of a prompt stands at the start of its tokens with a response.

    The prompt ends in spaces. Many tokenizers join the last of them to the first word of the response, so that the tokens of
    the bare prompt end in something that training never shows.

    Args:
        tokenizer: the tokenizer.
        head: the prompt.
        whole: token ids of the prompt and a response together.

    Returns:
        The prompt without those of its last spaces that belong to the response's first token, and its number of tokens; None
        where the tokens part earlier.
    """
    stem = head.rstrip(" ")
    for spaces in range(len(head) - len(stem), -1, -1):
        ids = token_ids(tokenizer, stem + " " * spaces)
        if list(whole[: len(ids)]) == ids:
            return stem + " " * spaces, len(ids)
    return None


def encode(example: Example, tokenizer: Any, template: str, train_on_inputs: bool, cutoff: int) -> Encoded:
    """Tokenises training prompt + response + end-of-text, cut at `cutoff` tokens; see `encode_after`, of conversations
    `encode_chat`. Plain text as it stands.
    """
    if isinstance(example, Chat):
        return encode_chat(example, tokenizer, template, train_on_inputs, cutoff)
    if isinstance(example, Plain):
        ids = token_ids(tokenizer, example.output)[:cutoff]
        return Encoded(tuple(ids), (IGNORED, *ids[1:]))
    return encode_after(prompt(example, template), example.output, tokenizer, train_on_inputs, cutoff)


def encode_after(head: str, response: str, tokenizer: Any, train_on_inputs: bool, cutoff: int) -> Encoded:
    """Tokenises a prompt and what follows it as one text.

    As in LLM-Adapters the end-of-text token is left out where the text was cut. The mask ends before the first token that
    holds any of the response (with LLaMA's tokenizers where the collection's ends: after as many tokens as the prompt has).
    """
    whole = token_ids(tokenizer, head + response)
    ids = whole[:cutoff]
    if len(ids) < cutoff:
        ids.append(tokenizer.eos_token_id)
    masked = 0
    if not train_on_inputs:
        start = shared_start(tokenizer, head, whole)
        masked = min(start[1] if start else len(token_ids(tokenizer, head)), len(ids))
    return Encoded(tuple(ids), tuple([IGNORED] * masked + ids[masked:]))


def encode_chat(example: Chat, tokenizer: Any, template: str, train_on_inputs: bool, cutoff: int) -> Encoded:
    """Tokenises a conversation as one text, cut at `cutoff` tokens; the loss is on the assistant's turns alone.

    Each of them counts from the first token that holds any of it to its end-of-text token. Those within the text are the
    tokenizer's own reading of it, the last is put behind, as in `encode_after`, whose result a single turn equals.

    Raises:
        ValueError: another template than that of conversations, or a tokenizer that does not read its own end of text.
    """
    if template != chat.NAME:
        raise ValueError(f"template {template!r} is not for conversations: train on them with {chat.NAME!r}")
    end = tokenizer.eos_token
    parts = chat.pieces(example)
    whole = token_ids(tokenizer, end.join(head + response for head, response in parts))
    ids = whole[:cutoff]
    if len(ids) < cutoff:
        ids.append(tokenizer.eos_token_id)
    labels = ids.copy() if train_on_inputs else [IGNORED] * len(ids)
    before, start = "", 0
    for number, (head, response) in enumerate(parts, start=1):
        if train_on_inputs or start >= len(ids):
            break
        found = shared_start(tokenizer, before + head, whole)
        start = found[1] if found else len(token_ids(tokenizer, before + head))
        before += head + response
        stop = len(ids)
        if number < len(parts):
            # The end-of-text token is put back by hand: `token_ids` takes it off.
            stop = len(token_ids(tokenizer, before)) + 1
            if stop <= len(whole) and whole[stop - 1] != tokenizer.eos_token_id:
                raise ValueError(
                    f"the tokenizer does not read {end!r} as one end-of-text token: conversations of several turns need that"
                )
            before += end
        labels[start:stop] = ids[start:stop]
    return Encoded(tuple(ids), tuple(labels))

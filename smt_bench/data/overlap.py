"""Test questions that also stand in a training set.

The rule: two questions are the same if instruction and input are, after lower-casing, with every run of characters that
are neither letters nor digits (spaces, line ends, punctuation) read as one space. Options belong to the instruction, so
the same stem with other options, or the same options in another order, is another question. Paraphrases are not found:
a count is a lower bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from smt_bench.data.prompts import Example

RULE = "normalised-1"  # what records name; another rule gets another name
_BETWEEN_WORDS = re.compile(r"[\W_]+")


def exact_question(example: Example) -> str:
    """The question character by character, without spaces at its ends."""
    return f"{example.instruction.strip()}\n{example.input.strip()}".strip()


def normalised_question(example: Example) -> str:
    """The question as its lower-case words and numbers, single spaces between them."""
    return _BETWEEN_WORDS.sub(" ", f"{example.instruction} {example.input}".lower()).strip()


def shared(
    train: Iterable[Example], tests: Mapping[str, Sequence[Example]], question: Callable[[Example], str]
) -> dict[str, int]:
    """How many examples of each test set ask a question that a training example asks.

    Args:
        train: training examples; read once.
        tests: test set -> its examples.
        question: what makes two questions the same, e.g. `normalised_question`.
    """
    asked = {name: [question(e) for e in examples] for name, examples in tests.items()}
    wanted = {text for texts in asked.values() for text in texts}
    seen = {text for e in train if (text := question(e)) in wanted}
    return {name: sum(text in seen for text in texts) for name, texts in asked.items()}

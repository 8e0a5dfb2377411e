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


def repeated(examples: Iterable[Example], question: Callable[[Example], str]) -> int:
    """How many examples ask a question that an earlier one asks."""
    asked = [question(e) for e in examples]
    return len(asked) - len(set(asked))


def split(examples: Sequence[Example], order: Sequence[int], heldout: int) -> tuple[list[int], list[int]]:
    """Which examples to train on and which to hold out, so that no question stands on both sides.

    The order is gone through once. An example is held out together with all that ask the same question; where that would be
    more than are wanted, all of them stay. Without repeated questions the first of the order are held out; with them the number
    is still met exactly as long as questions asked once are left.

    Args:
        examples: all.
        order: their numbers, shuffled.
        heldout: how many to hold out at most.

    Returns:
        Numbers of the training examples in their own order, and of the held-out ones as drawn.
    """
    alike: dict[str, list[int]] = {}
    texts = [normalised_question(e) for e in examples]
    for i, text in enumerate(texts):
        alike.setdefault(text, []).append(i)
    drawn: dict[int, None] = {}
    for i in order:
        if i not in drawn and len(drawn) + len(alike[texts[i]]) <= heldout:
            drawn |= dict.fromkeys([i, *alike[texts[i]]])
    return [i for i in range(len(examples)) if i not in drawn], list(drawn)


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

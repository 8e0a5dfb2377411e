"""What is wrong with the answers of one data file: those that cannot be read, and those that contradict each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

from smt_bench.data.family import Task
from smt_bench.data.overlap import normalised_question
from smt_bench.data.prompts import Example
from smt_bench.data.tasks import TOLERANCE, gold, label_number

_FORMAT = re.compile(r"Answer format:\s*(\S+)")
_LETTERS = ("A", "B", "C", "D", "E")  # AQuA's answers, in the mixtures of arithmetic tasks


def answer_of(example: Example, task: Task | None) -> str | float | None:
    """The gold answer as the evaluation reads it; None where it cannot be read or is none of the question's options.

    Args:
        example: the record.
        task: its task; None in a mixture, where the question says what it allows.
    """
    text = example.answer.strip()
    if task is not None:
        try:
            return gold(task, example)
        except ValueError:
            return None
    formats = _FORMAT.findall(example.instruction)
    if formats:
        return text if text in formats[-1].split("/") else None
    return text if text in _LETTERS else label_number(text)


def unreadable(examples: Sequence[Example], task: Task | None) -> list[int]:
    """Numbers (from 1) of the records whose gold answer cannot be read."""
    return [i for i, e in enumerate(examples, start=1) if answer_of(e, task) is None]


def contradictory(examples: Sequence[Example], task: Task | None) -> list[str]:
    """Questions (normalised) that stand in the file several times with different gold answers."""
    answers: dict[str, set[Hashable]] = {}
    for example in examples:
        value = answer_of(example, task)
        if value is not None:
            same = round(value / TOLERANCE) if isinstance(value, float) else value
            answers.setdefault(normalised_question(example), set()).add(same)
    return [question for question, given in answers.items() if len(given) > 1]


def majority(examples: Sequence[Example], task: Task | None) -> tuple[str, float] | None:
    """The most frequent gold answer and its share in %: what answering without reading gives; None without any answer."""
    counts = Counter(value for e in examples if (value := answer_of(e, task)) is not None)
    if not counts:
        return None
    value, count = counts.most_common(1)[0]
    return f"{value:g}" if isinstance(value, float) else value, 100 * count / len(examples)

"""What examples share: two that go back to one source (a fact, a passage, a pair of twins) do not count twice.

An embedded example is of the fact it asks about, a conversation of the being; a question of a benchmark or a record that says so
of what its file says that it shares. Any other is of

1. its `input`, where it has one (a passage, or the question itself);
2. else the text before its last sentence, where that has `ENOUGH` words: the passage or the story (SIQA asks several
   questions of one);
3. else, where it lists options, those and the first half of its words: WinoGrande's twins differ in one word near the end;
4. else all its words.

Without the instruction before it ("... to the question:"), case and punctuation, and with every number as "#": AQuA's
variants are one question with other numbers. BoolQ's passages are not in the LLM-Adapters layout, so that only equal
questions are found there. What the rule does not find makes intervals too narrow.
"""

from __future__ import annotations

import random
import re
from collections.abc import Hashable, Sequence

from smt_bench.data.example import Example, Plain
from smt_bench.data.family import Family

RULE = "sources-1"  # another rule gets another name
ENOUGH = 6
_LEAD = re.compile(
    r"^.{,120}?\b(?:question|sentence)\s*:\s*", re.IGNORECASE | re.DOTALL
)  # of LLM-Adapters' instructions
_FORM = re.compile(r"\bAnswer format:.*", re.DOTALL)
_OPTION = re.compile(r"(?:\b(?:answer|option|solution|ending)\s?\d\s*:|\([A-E]\))", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_NUMBER = re.compile(r"\d[\d.,]*")
_BETWEEN_WORDS = re.compile(r"[^\w#]+|_+")


def sources(family: Family | None, examples: Sequence[Example]) -> list[int]:
    """The number of every example's source, counted in the order in which sources appear.

    Args:
        family: theirs; None: unknown here.
        examples: of one test set, or held out.
    """
    of = None if family is None or family.embedded is None else family.embedded.source
    seen: dict[object, int] = {}
    return [seen.setdefault((of and of(e)) or source(e), len(seen)) for e in examples]


def source(example: Example) -> tuple[str, ...]:
    """What an example goes back to, by the rule above."""
    if said := getattr(example, "source", ""):
        return ("said", said)
    if isinstance(example, Plain):
        return ("text", *_words(example.output))
    if example.input.strip():
        return ("input", *_words(example.input))
    stem, *options = _OPTION.split(_FORM.sub("", _LEAD.sub("", example.instruction)))
    before = _words(" ".join(_SENTENCE.split(stem.strip())[:-1]))
    if len(before) >= ENOUGH:
        return ("before", *before)
    words = _words(stem)
    if len(options) > 1:
        return ("options", *words[: (len(words) + 1) // 2], "|", *(" ".join(_words(o)) for o in options))
    return ("question", *words)


def _words(text: str) -> list[str]:
    return _BETWEEN_WORDS.sub(" ", _NUMBER.sub("#", text.lower())).split()


def divide(names: Sequence[Hashable], seed: int) -> list[bool]:
    """Which of some examples choices are made by: half of them or a little less, every source on one side.

    Args:
        names: the source of each example.
        seed: of the order in which sources are drawn.

    Returns:
        True for the part that choices are made by; nowhere where one source has more than half and nothing else would be left.
    """
    order = list(dict.fromkeys(names))
    random.Random(f"smt-bench held-out parts: {seed}").shuffle(order)
    sizes = dict.fromkeys(order, 0)
    for name in names:
        sizes[name] += 1
    chosen, room = set(), len(names) // 2
    for name in order:
        if sizes[name] <= room:
            chosen.add(name)
            room -= sizes[name]
    return [name in chosen for name in names]

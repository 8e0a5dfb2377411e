"""Free-form answers: how one is read from generated text, and how it is compared with the gold ones.

As SQuAD's evaluation does it (Rajpurkar et al., 2016): lower case, no punctuation, no articles, single spaces; equal (exact
match), or the F1 of the words in common; the best over the gold answers. Two things are ours: punctuation of every script counts,
since TyDiQA has nine languages, and articles stay where nothing else is left, since the answer "(A)" would be empty without.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_STATED = re.compile(r"[tT]he answer is:?\s*(\S.*)")  # BIG-Bench Hard's chains of thought end so


def normalised(text: str) -> str:
    """The words of an answer, lower case, with single spaces."""
    plain = "".join(" " if unicodedata.category(c)[0] in "ZC" else c for c in text.lower())
    plain = "".join(c for c in plain if unicodedata.category(c)[0] != "P")
    return " ".join(_ARTICLES.sub(" ", plain).split()) or " ".join(plain.split())


def read(text: str) -> str | None:
    """The answer that a text gives: what follows its first "the answer is" on that line, up to the end of the sentence; else its
    first line that is not blank. None where nothing but punctuation is left.
    """
    found = _STATED.search(text)
    line = found.group(1) if found else next((line for line in text.splitlines() if line.strip()), "")
    answer = re.split(r"\.(?:\s|$)", line, maxsplit=1)[0] if found else line
    return answer.strip() if normalised(answer) else None


def golds(text: str) -> list[str]:
    """The gold answers: one per line, any of which is right."""
    return [line.strip() for line in text.splitlines() if normalised(line)]


def exact(prediction: str, right: Sequence[str]) -> float:
    """1 where an answer is one of the gold ones, normalised; else 0."""
    return float(normalised(prediction) in {normalised(one) for one in right})


def f1(prediction: str, right: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over words, of the gold answer that gives most, 0 to 1."""
    return max((_f1(normalised(prediction).split(), normalised(one).split()) for one in right), default=0.0)


def _f1(said: list[str], wanted: list[str]) -> float:
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted)) if common else 0.0

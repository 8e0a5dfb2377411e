"""Free-form answers: SQuAD's rules, and where they are ours."""

from __future__ import annotations

import itertools
import random
import re
import string
from collections import Counter

import pytest

from smt_bench.data import answers
from smt_bench.data.example import Example
from smt_bench.data.family import Task
from smt_bench.data.tasks import find_task, gold, parse, score


def squad(text: str) -> str:
    """As SQuAD's `evaluate-v1.1.py` has it."""
    plain = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def squad_f1(said: str, wanted: str) -> float:
    a, b = squad(said).split(), squad(wanted).split()
    same = sum((Counter(a) & Counter(b)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(a), same / len(b)
    return 2 * precision * recall / (precision + recall)


WORDS = ["the", "A", "Nile,", "river", "of", "4,000", "km.", "Nile", "an", "U.S.", "e-mail"]


def test_scores_are_squads() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 5))) for _ in range(60)]
    texts = [text for text in texts if squad(text)]  # where articles alone are left, the rule is ours
    pairs = list(itertools.product(texts, texts))
    assert {answers.exact(a, [b]) for a, b in pairs} == {0.0, 1.0}
    for a, b in pairs:
        assert answers.exact(a, [b]) == float(squad(a) == squad(b))
        assert answers.f1(a, [b]) == pytest.approx(squad_f1(a, b))
    assert answers.f1("Nile river", ["Amazon", "the river Nile", "river"]) == 1.0


def test_articles_stay_where_nothing_else_is_left() -> None:
    assert answers.exact("(A)", ["(A)"]) == 1 and answers.exact("(A)", ["(B)"]) == 0
    assert answers.exact("the", ["(A)"]) == 0  # both would be empty by SQuAD's rule


def test_punctuation_of_other_scripts_does_not_count() -> None:
    assert answers.exact("«Волга»।", ["волга"]) == 1 and answers.exact("كم؟", ["كم"]) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("So the answer is (B).", "(B)"),
        ("We count. The answer is 3.5 km. Then the answer is 4.", "3.5 km"),
        ("The answer is: left\nbecause", "left"),
        ("\n  1911. Or so\nmore", "1911. Or so"),
        (" ...\n", None),
        ("", None),
    ],
)
def test_how_an_answer_is_read(text: str, said: str | None) -> None:
    assert answers.read(text) == said == parse(find_task("bbh"), text)


def test_the_kind_of_a_task_decides_what_an_answer_is_worth() -> None:
    right = "the Nile\nriver Nile"
    assert score(find_task("tydiqa"), "Nile delta", right) == pytest.approx(2 / 3)
    assert score(find_task("bbh"), "nile", right) == 1
    assert parse(find_task("humaneval"), " \n") is None and parse(find_task("humaneval"), "  x") == "  x"
    assert [find_task(t).graded for t in ("mmlu", "gsm", "bbh", "tydiqa", "humaneval")] == [
        False,
        False,
        True,
        True,
        True,
    ]
    with pytest.raises(ValueError, match="tydiqa: gold answer '...' holds no word: mend the data file"):
        gold(find_task("tydiqa"), Example("q", "", "", "..."))
    with pytest.raises(ValueError, match="task x: kind 'prose': choose from number, exact, f1, code"):
        Task("x", None, "X", kind="prose")

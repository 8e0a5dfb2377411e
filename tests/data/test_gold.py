"""Gold answers: read strictly, unlike a model's prose, and refused with file and record where they cannot be right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import ROOT

from smt_bench.audit.labels import unreadable
from smt_bench.data import loading
from smt_bench.data.prompts import Example
from smt_bench.data.reading import read_examples
from smt_bench.data.tasks import TASKS, gold, label_number, offered

REAL = ROOT.parent / "shared" / "data" / "llm-adapters"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5.0), ("-5", -5.0), ("+5", 5.0), ("−5", -5.0), (" 42 ", 42.0), ("007", 7.0), ("15.0", 15.0),
        ("$5", 5.0), ("-$5", -5.0), ("$-5", -5.0), ("$ 1,080.50", 1080.5), ("40%", 40.0), ("40 %", 40.0),
        ("1,000,000", 1e6), (".5", 0.5), ("-.5", -0.5), ("5.", 5.0), ("1e3", 1000.0), ("2.5E-1", 0.25), ("1e−3", 0.001),
        ("1/2", 0.5), ("−3 / 4", -0.75), ("10/4", 2.5),
    ],
)  # fmt: skip
def test_numbers_are_what_they_say(text: str, value: float) -> None:
    assert label_number(text) == value
    assert gold(TASKS["gsm8k"], Example("q", "", "", text)) == value


@pytest.mark.parametrize(
    "text",
    ["1 000", "12-15", "1,00", "1,0000", "1.2.3", "1/0", "1/2/3", "1.5/2", "1 1/2", "--5", "$", "%", "5 apples", "about 5",
     "5, 6", "five", "nan", "inf", "1e400", "9" * 400, "9" * 5000 + "/3", "0x10", "٥", "", "-", ".", "1e", "#### 5"],
)  # fmt: skip
def test_what_is_no_single_number_is_refused(text: str) -> None:
    assert label_number(text) is None
    with pytest.raises(ValueError, match="is no number: mend the data file") as error:
        gold(TASKS["gsm8k"], Example("q", "", "", text))
    assert len(str(error.value)) < 120


def test_an_option_that_the_question_does_not_offer_is_refused() -> None:
    four = "Q?\n\nAnswer1: a Answer2: b Answer3: c Answer4: d\n\nAnswer format: answer1/answer2/answer3/answer4"
    assert gold(TASKS["ARC-Easy"], Example(four, "", "", " answer4 ")) == "answer4"
    with pytest.raises(ValueError, match=r"'answer5' is none of those that the question offers \(answer1, .*answer4\)"):
        gold(TASKS["ARC-Easy"], Example(four, "", "", "answer5"))
    with pytest.raises(ValueError, match="'answer9'"):
        gold(TASKS["ARC-Easy"], Example("Q?", "", "", "answer9"))


def test_letters_before_colons_are_no_options() -> None:
    """Ratios of variables are common in AQuA, whose options are written "(A)"."""
    ratio = "If A : B = 3 : 4, what is C? Answer Choices: (A) 1 (B) 2 (C) 3 (D) 4 (E) None of these"
    assert offered(TASKS["AQuA"], Example(ratio, "", "", "")) == ("A", "B", "C", "D", "E")
    assert gold(TASKS["AQuA"], Example(ratio, "", "", "C")) == "C"
    assert offered(TASKS["AQuA"], Example("A : B = 3 : 4?", "", "", "")) == ("A", "B", "C", "D", "E")
    with pytest.raises(ValueError, match="'E' is none of"):
        gold(TASKS["AQuA"], Example("Answer Choices: (A) 1 (B) 2 (C) 3 (D) 4", "", "", "E"))


@pytest.mark.parametrize(
    ("task", "bad"), [("gsm8k", "1 000"), ("boolq", "maybe"), ("ARC-Easy", "answer4"), ("AQuA", "F")]
)
def test_a_file_with_a_bad_gold_answer_is_refused_with_its_record(tmp_path: Path, task: str, bad: str) -> None:
    kind = TASKS[task]
    good = {"boolq": "true", "ARC-Easy": "answer1", "AQuA": "A"}.get(task, "5")
    record = {"instruction": "Answer1: a Answer2: b Answer3: c", "input": "", "output": "x", "answer": good}
    place = tmp_path / "dataset" / task
    place.mkdir(parents=True)
    (place / "train.json").write_text(json.dumps([{**record, "instruction": f"{i}"} for i in range(9)]))
    (place / "test.json").write_text(json.dumps([record, {**record, "answer": bad}]))
    with pytest.raises(ValueError) as error:
        loading.load(str(tmp_path), kind.family, (), 2, None)
    assert str(error.value).startswith(
        f"{place / 'test.json'}: record 2: field 'answer': {task}: gold answer {bad!r} is n"
    )
    assert unreadable(read_examples(place / "test.json"), kind) == [2]  # the audit says the same


def test_the_audit_reads_mixtures_as_strictly() -> None:
    answers = ["5", "1 000", "1/2", "12-15", "B", "F"]
    assert unreadable([Example("q", "", "x", answer) for answer in answers], None) == [2, 4, 6]


@pytest.mark.skipif(not REAL.is_dir(), reason="the LLM-Adapters data is not at ../shared/data/llm-adapters")
def test_every_published_gold_answer_is_read() -> None:
    read = 0
    for path in sorted(REAL.rglob("*.json")):
        examples = read_examples(path, ("input", "output"))
        assert unreadable(examples, TASKS.get(path.parent.name)) == []
        read += len(examples)
    assert read > 90_000

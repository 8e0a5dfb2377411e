"""Overlap, repeated questions and broken labels in made-up data folders; the real collection where it is at hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from smt_bench.audit import collection, labels
from smt_bench.cli.app import main
from smt_bench.data.overlap import exact_question, normalised_question, repeated, shared
from smt_bench.data.prompts import Example
from smt_bench.data.tasks import TASKS

PIQA = "\n\nAnswer format: solution1/solution2"


def question(text: str, answer: str, more: str = "") -> Example:
    return Example(text, more, f"the correct answer is {answer}", answer)


def write(path: Path, examples: list[Example]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = ("instruction", "input", "output", "answer")
    path.write_text(json.dumps([dict(zip(fields, (e.instruction, e.input, e.output, e.answer))) for e in examples]))


def test_questions_are_the_same_in_words_and_numbers() -> None:
    one, two = question("There are 7 crayons .", "4"), question(" there are\n7 crayons!", "5")
    assert normalised_question(one) == normalised_question(two) == "there are 7 crayons"
    assert exact_question(one) != exact_question(two)
    assert exact_question(one) == exact_question(question("There are 7 crayons .  ", "4"))
    for other in ("There are 8 crayons .", "There are 7 .", "There were 7 crayons"):
        assert normalised_question(question(other, "4")) != normalised_question(one)
    assert normalised_question(question("It is 1.5", "1")) != normalised_question(question("It is 15", "1"))
    assert normalised_question(question("It is", "1", "so")) == normalised_question(question("It is so", "1"))
    train = [one, question("Else", "1")]
    tests = {"AddSub": [two, two, question("New", "1")], "gsm8k": [question("Other", "1")]}
    assert shared(train, tests, normalised_question) == {"AddSub": 2, "gsm8k": 0}
    assert shared(train, tests, exact_question) == {"AddSub": 0, "gsm8k": 0}


def test_gold_answers() -> None:
    piqa, aqua, gsm = TASKS["piqa"], TASKS["AQuA"], TASKS["gsm8k"]
    assert labels.answer_of(question("A?" + PIQA, "solution1"), piqa) == "solution1"
    assert labels.answer_of(question("A?" + PIQA, "solution3"), piqa) is None
    assert labels.answer_of(question("A?\n\nAnswer format: answer1/answer2", "answer3"), TASKS["ARC-Easy"]) is None
    assert labels.answer_of(question("How many?", "1,234"), gsm) == 1234
    assert labels.answer_of(question("How many?", "none"), gsm) is None
    assert labels.answer_of(question("Which?", "C"), aqua) == "C"
    # In a mixture the question itself says what it allows.
    assert labels.answer_of(question("A?" + PIQA, "solution1"), None) == "solution1"
    assert labels.answer_of(question("A?" + PIQA, "answer1"), None) is None
    assert labels.answer_of(question("Which?", "C"), None) == "C"
    assert labels.answer_of(question("How many?", "12.0"), None) == 12
    assert labels.answer_of(question("How many?", "?"), None) is None


def test_repeated_and_contradictory_questions() -> None:
    good = [question("Q 1", "4"), question("Q 2", "5"), question("Q 1", "4.0")]
    assert repeated(good, exact_question) == 1 and labels.contradictory(good, TASKS["gsm8k"]) == []
    bad = [*good, question("q 2.", "6"), question("Q 3", "?")]
    assert repeated(bad, exact_question) == 1 and repeated(bad, normalised_question) == 2
    assert labels.contradictory(bad, TASKS["gsm8k"]) == ["q 2"]
    assert labels.unreadable(bad, TASKS["gsm8k"]) == [5] and labels.unreadable(good, TASKS["gsm8k"]) == []
    assert labels.majority(bad, TASKS["gsm8k"]) == ("4", 40.0)
    assert labels.majority([question("Q", "?")], TASKS["gsm8k"]) is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """PIQA with one test question in the training file, and a mixture that holds all but one."""
    root = tmp_path / "data"
    tests = [question(f"Test {i}?{PIQA}", "solution1" if i else "solution2") for i in range(4)]
    write(root / "dataset" / "piqa" / "test.json", tests)
    train = [question(f"Train {i}?{PIQA}", "solution1") for i in range(4)]
    write(root / "dataset" / "piqa" / "train.json", [*train, tests[0]])
    shouted = [question(t.instruction.upper().replace("ANSWER FORMAT", "Answer format"), "x") for t in tests[1:]]
    write(root / "ft-training_set" / "commonsense_170k.json", [*train, *shouted])
    return root


def test_a_folder(folder: Path) -> None:
    found = collection.report(folder)
    assert [(o.train, o.test, o.records, o.exact, o.normalised) for o in found.overlaps] == [
        ("ft-training_set/commonsense_170k.json", "dataset/piqa/test.json", 4, 0, 3),
        ("dataset/piqa/train.json", "dataset/piqa/test.json", 4, 1, 1),
    ]
    files = {f.file: f for f in found.files}
    test, mixture = files["dataset/piqa/test.json"], files["ft-training_set/commonsense_170k.json"]
    assert (test.majority, test.majority_pct, test.unreadable, test.contradictory) == ("solution1", 75.0, 0, 0)
    assert (mixture.unreadable, mixture.unreadable_records) == (3, [5, 6, 7])
    assert collection.summary(found) == (
        "2 of 2 pairs of a training file and a test set share questions (most: ft-training_set/commonsense_170k.json holds "
        "3 of 4 of PIQA); 3 gold answers are unreadable or contradictory."
    )


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["smt_bench", "audit", "data", *args])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "--data", str(folder), "--results", str(tmp_path)) == 0
    done = capsys.readouterr()
    assert done.out == (tmp_path / "audit" / "data.md").read_text(encoding="utf-8")
    assert "| ft-training_set/commonsense_170k.json | PIQA" in done.out
    assert call(monkeypatch, "--data", str(folder), "--results", str(tmp_path), "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["overlaps"][0]["normalised"] == 3 and len(values["files"]) == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data", "nowhere"], "data folder nowhere does not exist"),
        (["--data", "."], "no dataset/<task>/test.json of a known task"),
        ([], "Missing option '--data'"),
    ],
)
def test_bad_folders_are_one_line(
    args: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *args) == 2
    done = capsys.readouterr()
    assert message in done.err and len(done.err.splitlines()) == 1 and done.out == ""
    assert not (tmp_path / "results").exists()


def test_records_without_a_response_are_counted() -> None:
    files = [question("One?", "4"), Example("Two?", "", "", "5"), Example("Three?", "", " ", "5")]
    assert collection.file_report("a.json", "train", None, files).empty == 2
    assert collection.file_report("a.json", "train", None, files[:1]).empty == 0


def test_the_real_collection() -> None:
    root = ROOT.parent / "shared" / "data" / "llm-adapters"
    if not root.is_dir():
        pytest.skip("../shared/data/llm-adapters is not here")
    found = collection.report(root)
    counts = {(o.train, o.task): (o.exact, o.normalised) for o in found.overlaps}
    contaminated = "ft-training_set/math_data.json"
    assert counts[contaminated, "gsm8k"] == (1055, 1055) and counts[contaminated, "SingleEq"] == (406, 425)
    assert {f.file: f.empty for f in found.files}[contaminated] == 3
    assert not any(counts["dataset/gsm8k/train.json", task] != (0, 0) for task in ("gsm8k", "AddSub", "MultiArith"))
    assert counts["dataset/piqa/train.json", "piqa"] == (1, 2) and counts[
        "dataset/ARC-Easy/train.json", "ARC-Easy"
    ] == (2, 2)

import json
from dataclasses import replace

import pytest
from helpers import ROOT

from smt_bench.data.family import Task
from smt_bench.data.prompts import Example
from smt_bench.data.tasks import TASKS, find_task, gold, offered, parse, parse_number, parse_option, said_option, same

REAL = ROOT.parent / "shared/data/llm-adapters/dataset"


def example(instruction="", answer=""):
    return Example(instruction, "", "", answer)


def test_unknown_task_names_the_nearest_in_one_line():
    with pytest.raises(ValueError, match="did you mean 'ARC-Easy'") as error:
        find_task("arc_easy")
    assert "\n" not in str(error.value)
    assert find_task("boolq").options == ("true", "false")


def test_offered_reads_the_format_line_then_headings_then_gives_all():
    task = find_task("ARC-Easy")
    four = "Q?\n\nAnswer1: a Answer2: b Answer3: c Answer4: d\n\nAnswer format: answer1/answer2/answer3/answer4"
    assert offered(task, example(four)) == ("answer1", "answer2", "answer3", "answer4")
    assert offered(task, example("Q? Answer1: a Answer2: b Answer3: c")) == ("answer1", "answer2", "answer3")
    assert offered(task, example("Q?")) == task.options
    assert offered(find_task("boolq"), example("Q?\n\nAnswer format: true/false")) == ("true", "false")
    with pytest.raises(ValueError, match="number"):
        offered(find_task("gsm8k"), example("Q?"))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("the correct answer is answer3", "answer3"),
        ("answer2 or answer1", "answer2"),  # the first in the text, not in the list
        ("Answer2", None),  # case matters
        ("answer6", None),
        ("", None),
    ],
)
def test_parse_option_takes_the_first_match(text, expected):
    assert parse_option(text, TASKS["ARC-Easy"].options) == expected


def test_parse_option_keeps_the_references_habits():
    assert parse_option("that is untrue", ("true", "false")) == "true"
    assert parse(TASKS["AQuA"], "so it is C, not D") == "C"
    assert parse(TASKS["AQuA"], "Answer: C") == "A"


@pytest.mark.parametrize(
    ("text", "options", "lead", "last", "expected"),
    [
        ("10", ("1", "5", "10"), "", False, "10"),
        ("Answer: C", tuple("ABCD"), "Answer:", False, "C"),
        ("A is tempting. Answer: C, not A", tuple("ABCD"), "Answer:", False, "C"),
        ("Answer: A. No. Answer: B", tuple("AB"), "Answer:", True, "B"),  # the last lead counts
        ("It praises positive aspects, but overall it is negative", ("positive", "negative"), "", True, "negative"),
        ("positive, not negative", ("positive", "negative"), "", False, "positive"),
        ("I do not know; yes", ("no", "yes"), "", False, "yes"),
        ("It is not happy", ("happy", "not happy"), "", True, "not happy"),
        ("so it is (B)", ("(A)", "(B)"), "", True, "(B)"),
        ("答案是正面的", ("正面", "负面"), "", False, "正面"),
        ("unhappy", ("happy", "sad"), "", False, None),
        ("", ("yes", "no"), "it is", False, None),
        ("it is", ("yes", "no"), "it is", False, None),
        ("a.c or abc", ("a.c",), "", True, "a.c"),  # options are no patterns
        ("it is yes. it is", ("yes", "no"), "it is", False, "yes"),  # the budget cut a repetition
        ("it is yes. it is", ("yes", "no"), "it is", True, "yes"),
        ("it is yes, since it is not bad, no?", ("yes", "no"), "it is", False, "yes"),
        ("it is yes\nit is no", ("yes", "no"), "it is", False, "yes"),
        ("yes. it is", ("yes", "no"), "it is", False, "yes"),
        ("因此选A", tuple("ABCD"), "", True, "A"),
        ("정답은 A입니다", tuple("ABCD"), "", True, "A"),
        ("答案是10", ("1", "10"), "", True, "10"),
        ("_yes_", ("yes", "no"), "", True, "yes"),
        ("naïve", ("na", "no"), "", True, None),
    ],
)
def test_options_of_ones_own_are_read_as_words(text, options, lead, last, expected):
    assert said_option(text, options, lead, last) == expected


def test_a_task_says_how_its_options_are_read():
    own = Task("t", ("1", "10"), "T", whole=True, lead="")
    assert parse(own, "10") == "10" and parse(replace(own, whole=False), "10") == "1"
    reasoned = replace(own, rationale=True)
    assert parse(reasoned, "first 1, then 10") == "10" and parse(own, "first 1, then 10") == "1"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("7 - 3 = 4 crayons. The answer is 4.", 4.0),
        ("1,080 dollars", 1080.0),
        ("it fell to -2.5", -2.5),
        ("20-5", -5.0),
        ("no number", None),
        ("", None),
        ("9" * 400, None),  # overflows to infinity
    ],
)
def test_parse_number_takes_the_last(text, expected):
    assert parse_number(text) == expected


def test_gold_and_same():
    assert gold(TASKS["MultiArith"], example(answer="15.0")) == 15.0
    assert gold(TASKS["boolq"], example(answer=" true ")) == "true"
    with pytest.raises(ValueError, match="answer9"):
        gold(TASKS["ARC-Easy"], example(answer="answer9"))
    with pytest.raises(ValueError, match="no number"):
        gold(TASKS["gsm8k"], example(answer="many"))
    assert same(4.0009, 4.0) and not same(4.002, 4.0) and not same(None, 4.0)
    assert same("true", "true") and not same("false", "true") and not same(None, "true")


@pytest.mark.skipif(not REAL.is_dir(), reason="the LLM-Adapters data is not at ../shared/data/llm-adapters")
def test_every_real_record_has_a_gold_among_what_it_offers():
    seen = 0
    for file in sorted(REAL.glob("*/test.json")):
        task = find_task(file.parent.name)
        for record in json.loads(file.read_text()):
            item = Example(**record)
            right = gold(task, item)
            if task.options:
                assert right in offered(task, item)
                assert parse(task, item.output) == right
                seen += len(offered(task, item)) != len(task.options)
    assert seen > 3000  # nearly all ARC questions offer four of the five

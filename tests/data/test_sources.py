"""What examples share, in the data and in records old and new."""

from __future__ import annotations

import json

import pytest
from helpers import ROOT

from smt_bench.data import families, world
from smt_bench.data.prompts import Example
from smt_bench.data.sources import source, sources
from smt_bench.evidence import clusters
from smt_bench.evidence.cells import groups
from smt_bench.records.store import Store
from smt_bench.records.trust import SCHEMA, UPGRADES, Damaged, check

REFERENCE = ROOT / "results" / "reference"
PLATEAU = json.loads((REFERENCE / "plateau/tiny/runs.json").read_text())["settings"]["d2345fbada7fa5af"]
WINO = (
    "Please choose the correct answer to fill in the blank to complete the given sentence: Sarah was a much better surgeon than "
    "Maria so _ always got the {} cases.\n\nOption1: {} Option2: Maria Answer format: option1/option2"
)
SIQA = (
    "Please choose the correct answer to the question: Tracy didn't go home that evening and resisted Riley's attacks. {}\n\n"
    "Answer1: make a new plan {} Answer2: Go home Answer3: wait Answer format: answer1/answer2/answer3"
)
MATH = "There are {} crayons in the drawer and Mary takes {} of them out. How many crayons are there now?"
BOOLQ = "Please answer the following question with true or false, question: {}?\n\nAnswer format: true/false"


def asked(text: str, passage: str = "") -> Example:
    return Example(text, passage, "", "")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (WINO.format("easier", "Sarah"), WINO.format("harder", "Sarah"), True),  # twins
        (WINO.format("easier", "Sarah"), WINO.format("easier", "Ann"), False),
        (SIQA.format("What will he do?", "now"), SIQA.format("How does she feel?", "later"), True),  # one story
        (MATH.format(7, 3), MATH.format(12, 5), True),  # the same but for numbers
        (MATH.format(7, 3), MATH.format(7, 3).replace("crayons", "pens"), False),
        (BOOLQ.format("is the sky blue"), BOOLQ.format("is the sky blue"), True),
        (BOOLQ.format("is the sky blue at night"), BOOLQ.format("is the sky blue at noon"), False),
    ],
)
def test_which_questions_go_back_to_one_source(a: str, b: str, same: bool) -> None:
    assert (source(asked(a)) == source(asked(b))) == same


def test_a_passage_is_a_source() -> None:
    assert sources(None, [asked("One?", "A text."), asked("Two?", "a text"), asked("One?", "Another.")]) == [0, 0, 1]


def test_embedded_examples_are_of_their_facts_in_every_wording() -> None:
    found = families.find("commonsense")
    assert found.embedded is not None
    train, tests = found.embedded.load()
    assert len(set(sources(found, train))) == len(train) / 3  # three wordings of every fact
    assert sum(len(set(sources(found, part))) for part in tests.values()) == 296  # of 500 items
    both = sources(found, [*train, *tests["facts-2"]])
    assert set(both[len(train) :]) < set(both[: len(train)])
    assert world.fact(asked("something else")) is None


def test_old_records_are_upgraded_and_their_sources_found() -> None:
    record = Store(REFERENCE).read(PLATEAU[0])
    assert record is not None and record["schema"] == SCHEMA == max(UPGRADES) + 1
    assert "cluster" not in record["evaluation"]["facts-2"]["examples"]
    found = clusters.of_task(record, "facts-2")
    assert found is not None and len(found) == 100 and len(set(found)) == 59
    heldout = clusters.of_heldout(record)
    assert heldout is not None and (len(heldout), len(set(heldout))) == (100, 91)
    (group,) = groups([record])
    assert (
        group.answers.sourced(sorted(record["evaluation"]))
        and group.answers.side(["facts-2"]).items.stratum_G.size == 59
    )
    # Of other test sets under these names nothing is claimed: the content hash is compared.
    record["run"]["evaluation"]["tasks"]["facts-2"] = "0" * 16
    record["run"]["data"]["train_sha256"] = "0" * 16
    assert clusters.of_task(record, "facts-2") is None is clusters.of_heldout(record)


def test_records_say_it_themselves_and_are_not_believed_where_they_cannot_be_right() -> None:
    record = Store(REFERENCE).read(PLATEAU[0])
    assert record is not None
    examples = record["evaluation"]["facts-2"]["examples"]
    examples["cluster"] = [0] * 99 + [1]
    assert clusters.of_task(record, "facts-2") == examples["cluster"]
    check(record, record["key"])
    for wrong in ([0] * 98 + [2, 2], [-1] + [0] * 99, [0] * 99):
        examples["cluster"] = wrong
        with pytest.raises(Damaged, match=r"evaluation\.facts-2"):
            check(record, record["key"])
    examples["cluster"] = [0] * 100
    record["heldout"]["examples"]["cluster"] = [0]
    with pytest.raises(Damaged, match="1 sources of 100 examples"):
        check(record, record["key"])

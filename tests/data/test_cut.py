"""Responses that the cut-off takes away: counted in the record and the tables, refused where nothing is left."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import small_tokenizer
from short_runs import question

from smt_bench.data import cut, datasets, loading
from smt_bench.data.batches import training_order
from smt_bench.data.prompts import TEMPLATE, Example, encode
from smt_bench.execute import execute
from smt_bench.machine import fits
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request

TOKENIZER = small_tokenizer()
SHORT = Example("Is it?", "", "the correct answer is true", "true")
LONG = Example("Is it? " + "word " * 60, "", "the correct answer is true", "true")
LENGTH = len(encode(SHORT, TOKENIZER, TEMPLATE, False, 5000).ids)  # with the end-of-text token


def test_responses_are_counted_by_what_is_left_of_them() -> None:
    response = cut.response_tokens(encode(SHORT, TOKENIZER, TEMPLATE, False, 5000))
    for cutoff, empty, shortened in (
        (LENGTH, 0, 0),
        (LENGTH - 1, 0, 1),  # the end-of-text token alone
        (LENGTH - response + 1, 0, 1),
        (LENGTH - response, 1, 0),
        (5, 1, 0),
    ):
        found = cut.count([SHORT], TOKENIZER, TEMPLATE, cutoff)
        assert found == {"examples": 1, "empty": empty, "shortened": shortened}, cutoff
        assert cut.any_response([LONG, SHORT], TOKENIZER, TEMPLATE, cutoff) == (not empty)
    assert cut.count([SHORT, LONG, SHORT], TOKENIZER, TEMPLATE, LENGTH) == {"examples": 3, "empty": 1, "shortened": 0}


def test_looking_for_a_response_stops_at_the_first() -> None:
    seen = []

    def tokenizer(text: str) -> object:
        seen.append(text)
        return TOKENIZER(text)

    tokenizer.eos_token_id = TOKENIZER.eos_token_id  # type: ignore[attr-defined]
    assert cut.any_response([SHORT] * 100, tokenizer, TEMPLATE, LENGTH)
    assert len(seen) < 10


def folder(root: Path, long: int, short: int) -> str:
    place = root / "dataset" / "boolq"
    place.mkdir(parents=True)
    records = [{"instruction": f"{i} " + "word " * (200 if i < long else 1), "output": "true", "answer": "true"}
               for i in range(long + short)]  # fmt: skip
    for name in ("train", "test"):
        (place / f"{name}.json").write_text(json.dumps(records))
    return str(root)


def opened(source: str) -> Planner:
    planner = Planner(Request("plateau", "tiny", source, preset="smoke", methods=("lora",)), fits.here())
    planner.open()
    return planner


def test_a_training_set_without_any_response_is_refused_when_planning(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="128 tokens leaves nothing of the response in any of the .* training records"):
        opened(folder(tmp_path / "none", 60, 0))
    assert opened(folder(tmp_path / "some", 30, 30)).opened


def test_held_out_records_without_any_response_are_refused_when_planning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loading.load(folder(tmp_path, 30, 30), "commonsense", (), 0, None).train
    data = datasets.DataSet("commonsense", "made up", whole[30:], whole[:30], {})
    monkeypatch.setattr("smt_bench.questions.opened.load", lambda *_: data)
    with pytest.raises(ValueError, match="of the 30 held-out records"):
        opened(str(tmp_path))


def test_a_run_records_what_did_not_fit_of_what_it_drew() -> None:
    run, inputs = question("full")
    lengths = [len(encode(e, _tiny(), TEMPLATE, False, 512).ids) for e in inputs.data.train]
    middle = sorted(lengths)[len(lengths) // 2]
    run = replace(run, data=replace(run.data, cutoff=middle - 2))
    record = execute(run, inputs)
    assert record["status"] == "done", record["message"]
    rows = [len(e.instruction) + len(e.input) + len(e.output) for e in inputs.data.train]
    order = training_order(rows, run.train.batch_size, run.seed)
    drawn = {i for _ in range(run.train.steps) for i in next(order)}
    expected = cut.count([inputs.data.train[i] for i in drawn], _tiny(), TEMPLATE, middle - 2)
    assert record["cut"]["training"] == expected and expected["shortened"] > 0
    assert record["cut"]["heldout"] == cut.count(inputs.data.heldout, _tiny(), TEMPLATE, middle - 2)
    assert record["cut"]["heldout"]["empty"] == record["heldout"]["examples"]["tokens"].count(0)
    assert record["cut"]["prompts"] == dict.fromkeys(inputs.data.tests, 0)
    assert json.loads(json.dumps(record["cut"])) == record["cut"]


def test_nothing_is_drawn_where_nothing_trains() -> None:
    planner = Planner(Request("plateau", "tiny", preset="smoke", limit=2), fits.here())
    planner.open()
    record = execute(planner.run("base", None, 0)[0], planner.inputs())
    assert record["status"] == "done" and record["cut"]["training"] is None
    assert record["cut"]["heldout"] == {"examples": len(planner.data.heldout), "empty": 0, "shortened": 0}


@pytest.mark.parametrize("whole", [False, True])
def test_a_run_that_draws_no_response_is_refused_before_training(whole: bool) -> None:
    run, inputs = question("dora")
    record = execute(replace(run, data=replace(run.data, cutoff=6, train_on_inputs=whole)), inputs)
    assert record["status"] == "failed" and "training" not in record
    assert "cut-off 6 tokens leaves nothing of the response in any of the" in record["message"]


def _tiny() -> object:
    from transformers import AutoTokenizer

    from smt_bench.testbed import WEIGHTS

    return AutoTokenizer.from_pretrained(WEIGHTS)

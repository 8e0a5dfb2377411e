"""Reading data: content hashes, splits, and one clear line for everything that can be wrong with a file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from helpers import ROOT

from smt_bench.data import datasets, loading
from smt_bench.data.batches import collate, training_order
from smt_bench.data.overlap import normalised_question
from smt_bench.data.prompts import IGNORED, Encoded

GOOD = {"instruction": "Is it?", "input": "", "output": "the correct answer is true", "answer": "true"}


def distinct(count: int) -> list[dict[str, str]]:
    return [{**GOOD, "instruction": f"train {i}?"} for i in range(count)]


def folder(root: Path, train: int = 40, test: int = 12, task: str = "boolq") -> Path:
    place = root / "dataset" / task
    place.mkdir(parents=True)
    for name, count in (("train", train), ("test", test)):
        values = [{**GOOD, "instruction": f"{name} {i}?"} for i in range(count)]
        (place / f"{name}.json").write_text(json.dumps(values))
    return root


def test_loads_splits_and_limits(tmp_path: Path) -> None:
    found = loading.load(str(folder(tmp_path)), "commonsense", (), heldout=10, limit=5)
    assert (len(found.train), len(found.heldout), len(found.tests["boolq"])) == (30, 10, 5)
    assert not {e.instruction for e in found.train} & {e.instruction for e in found.heldout}
    assert found.train_source == "boolq"
    assert "piqa" in found.missing and "boolq" not in found.missing
    fewer = loading.load(str(tmp_path), "commonsense", (), heldout=10, limit=5, limit_heldout=4)
    assert (fewer.train, fewer.heldout, fewer.aside) == (found.train, found.heldout[:4], 10)  # none is trained on
    assert fewer.train_sha256 == found.train_sha256  # how many are looked at stands in the key by itself
    all_of_them = loading.load(str(tmp_path), "commonsense", (), heldout=10, limit=5, limit_heldout=10)
    assert (all_of_them.aside, all_of_them.train_sha256) == (0, found.train_sha256) and not all_of_them.rest
    again = loading.load(str(tmp_path), "commonsense", ("boolq",), heldout=10, limit=5)
    assert again.train_sha256 == found.train_sha256
    assert again.tests == found.tests
    assert datasets.content_hash(found.tests["boolq"]) != datasets.content_hash(found.tests["boolq"][1:])


def test_the_mixture_wins_over_the_tasks_train_files(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "ft-training_set").mkdir()
    (tmp_path / "ft-training_set" / "commonsense_170k.json").write_text(json.dumps(distinct(30)))
    assert loading.load(str(tmp_path), "commonsense", (), 5, None).train_source == "commonsense_170k.json"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not valid JSON"),
        ("[]", "an empty list"),
        ("{}", "dict, expected a non-empty list"),
        ("[1]", "record 1 is int"),
        (json.dumps([GOOD, {"instruction": "x"}]), r"record 2: field 'answer' is missing"),
        (json.dumps([GOOD, GOOD, {**GOOD, "answer": ""}]), r"record 3: field 'answer' is ''"),
        (json.dumps([{**GOOD, "instruction": 5}]), r"record 1: field 'instruction' is 5"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    folder(tmp_path)
    path = tmp_path / "dataset" / "boolq" / "test.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        loading.load(str(tmp_path), "commonsense", (), 5, None)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def split(root: Path, records: list[dict[str, str]], heldout: int) -> datasets.DataSet:
    place = root / "ft-training_set" / "commonsense_170k.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(records))
    return loading.load(str(root), "commonsense", (), heldout, None)


def test_copies_of_a_question_stand_on_one_side_of_the_split(tmp_path: Path) -> None:
    folder(tmp_path)
    once = distinct(40)
    shouted = [{**r, "instruction": f"  {r['instruction'].upper()}!", "output": "x"} for r in once[:25]]
    for heldout in (1, 7, 20, 64):
        found = split(tmp_path, [*once, *shouted], heldout)
        assert (len(found.heldout), len(found.train), found.repeated) == (heldout, 65 - heldout, 25)
        asked = [{normalised_question(e) for e in part} for part in (found.train, found.heldout)]
        assert not asked[0] & asked[1]
        again = split(tmp_path, [*once, *shouted], heldout)
        assert (again.train, again.heldout) == (found.train, found.heldout)
    assert any(len({normalised_question(e) for e in part}) < len(part) for part in (found.train, found.heldout))


def test_as_many_are_held_out_as_copies_allow(tmp_path: Path) -> None:
    folder(tmp_path)
    triples = [r for r in distinct(10) for _ in range(3)]
    found = split(tmp_path, triples, 8)  # two questions make six, a third would make nine
    assert (len(found.heldout), len(found.train), found.repeated) == (6, 24, 20)
    with pytest.raises(ValueError, match="asks every question more than 2 times: nothing can be held out"):
        split(tmp_path, triples, 2)
    assert split(tmp_path, triples, 0).heldout == []


def test_without_copies_the_split_is_what_it_was(tmp_path: Path) -> None:
    """Keys of data without repeated questions have not moved."""
    folder(tmp_path)
    order = list(range(40))
    random.Random(datasets.HELDOUT_SEED).shuffle(order)
    records = distinct(40)
    found = split(tmp_path, records, 9)
    assert [e.instruction for e in found.heldout] == [records[i]["instruction"] for i in order[:9]]
    assert [e.instruction for e in found.train] == [
        r["instruction"] for i, r in enumerate(records) if i not in order[:9]
    ]
    assert found.repeated == 0


def test_training_records_without_a_response_are_left_out_and_counted(tmp_path: Path) -> None:
    folder(tmp_path)
    assert loading.load(str(tmp_path), "commonsense", (), 5, None).empty == 0
    place = tmp_path / "ft-training_set" / "commonsense_170k.json"
    place.parent.mkdir()
    full = [{**GOOD, "instruction": f"{i}?"} for i in range(30)]
    place.write_text(json.dumps(full))
    clean = loading.load(str(tmp_path), "commonsense", (), 5, None)
    place.write_text(json.dumps([*full[:7], {**GOOD, "output": ""}, *full[7:], {**GOOD, "output": " \n"}]))
    found = loading.load(str(tmp_path), "commonsense", (), 5, None)
    assert found.empty == 2 and found.train_sha256 == clean.train_sha256  # the same question as without them
    assert (found.train, found.heldout) == (clean.train, clean.heldout)
    place.write_text(json.dumps([{**GOOD, "output": ""}] * 30))
    with pytest.raises(ValueError, match="'output' is empty in all 30 records"):
        loading.load(str(tmp_path), "commonsense", (), 5, None)
    place.write_text(json.dumps([*full, {k: v for k, v in GOOD.items() if k != "output"}]))
    with pytest.raises(ValueError, match="record 31: field 'output' is missing"):
        loading.load(str(tmp_path), "commonsense", (), 5, None)


def test_the_contaminated_file_can_be_trained_on(tmp_path: Path) -> None:
    root = ROOT.parent / "shared" / "data" / "llm-adapters"
    if not root.is_dir():
        pytest.skip("../shared/data/llm-adapters is not here")
    (tmp_path / "dataset").symlink_to(root / "dataset")
    (tmp_path / "math_10k.json").symlink_to(root / "ft-training_set" / "math_data.json")
    found = loading.load(str(tmp_path), "math", (), 100, None)
    assert (found.empty, len(found.train) + 100) == (3, 3257) and found.overlap["gsm8k"] > 1000


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        loading.load(str(tmp_path / "no"), "commonsense", (), 5, None)
    with pytest.raises(ValueError, match="dataset/boolq/test.json"):
        loading.load(str(tmp_path), "commonsense", (), 5, None)
    folder(tmp_path)
    with pytest.raises(ValueError, match="dataset/piqa/test.json"):
        loading.load(str(tmp_path), "commonsense", ("piqa",), 5, None)
    with pytest.raises(ValueError, match="not one of commonsense"):
        loading.load(str(tmp_path), "commonsense", ("gsm8k",), 5, None)
    with pytest.raises(ValueError, match="fewer than the 50 to hold out"):
        loading.load(str(tmp_path), "commonsense", (), 50, None)


def test_shared_collection() -> None:
    root = ROOT.parent / "shared" / "data" / "llm-adapters"
    if not root.is_dir():
        pytest.skip("../shared/data/llm-adapters is not here")
    found = loading.load(str(root), "commonsense", (), 80, 10)
    assert len(found.tests) == 6 and found.missing == ["hellaswag", "winogrande"]
    assert len(found.train) + len(found.heldout) == 67_277 and len(found.heldout) == 80
    assert found.repeated == 42
    math = loading.load(str(root), "math", ("gsm8k",), 80, None)
    assert (math.train_source, len(math.tests["gsm8k"])) == ("gsm8k", 1319)


def test_batches_shift_labels_and_pad_right() -> None:
    batch = collate([Encoded((5, 6, 7), (IGNORED, 6, 7)), Encoded((8, 9), (IGNORED, 9))], pad_id=1)
    assert batch.ids_BT.tolist() == [[5, 6, 7], [8, 9, 1]]
    assert batch.labels_BT.tolist() == [[6, 7, IGNORED], [9, IGNORED, IGNORED]]
    assert (batch.targets, batch.tokens) == (3, 5)


def test_training_order_covers_every_example_once_an_epoch() -> None:
    lengths = [i % 50 for i in range(640)]
    order = training_order(lengths, 8, seed=1)
    epoch = [next(order) for _ in range(80)]
    assert sorted(i for batch in epoch for i in batch) == list(range(640))
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in epoch]
    assert sum(spread) / len(spread) < 10  # bucketed
    again = training_order(lengths, 8, seed=1)
    assert [next(again) for _ in range(80)] == epoch
    other = training_order(lengths, 8, seed=2)
    assert [next(other) for _ in range(80)] != epoch
    short = training_order([1, 2, 3], 8, seed=0)
    assert [len(next(short)) for _ in range(3)] == [8, 8, 8]

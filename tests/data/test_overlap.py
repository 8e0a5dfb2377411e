"""Test questions that are also trained on: recorded and warned of by runs, marked in their tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Cli
from made_up import record

from smt_bench.cli.listing import overlap_warning
from smt_bench.data import loading
from smt_bench.data.overlap import RULE
from smt_bench.records.store import Record
from smt_bench.report.accuracy.by_fraction import table3
from smt_bench.report.accuracy.by_task import table2

RIGHT = {"boolq": [1, 0, 1, 0], "piqa": [1, 1]}


def with_overlap(made: Record, **tests: int) -> Record:
    return made | {"overlap": {"rule": RULE, "tests": {"boolq": 0, "piqa": 0, **tests}}}


def rows(records: list[Record], table) -> dict[str, list[str]]:
    return {str(r[0]): [str(c) for c in r[1:]] for r in table(records, "m").rows}


def test_cells_of_overlapping_test_sets_are_marked() -> None:
    records = [with_overlap(record(m, f, 0, RIGHT), piqa=1) for m, f in (("base", None), ("smt", 1.0))]
    by_task, by_fraction = rows(records, table2), rows(records, table3)
    assert by_task["SMT"][-3:] == ["50.0", "100.0†", "75.0†"]
    assert by_task["base"][-3:] == ["50.0", "100.0", "75.0"]  # nothing is trained
    assert any("75.0" in c and "†" in c for c in by_fraction["SMT"]) and "†" not in "".join(by_fraction["base"])
    for table in (table2, table3):
        made = table(records, "m")
        assert sum(note.startswith("†") and "PIQA 1 of 2." in note for note in made.notes) == 1
        assert [row["overlap"] for row in made.data or []] == [None, 1]


@pytest.mark.parametrize("known", [False, True])
def test_clean_and_older_records_have_no_mark(known: bool) -> None:
    made = record("smt", 1.0, 0, RIGHT)
    records = [with_overlap(made) if known else made]
    for table in (table2, table3):
        text = table(records, "m").to_markdown()
        assert "†" not in text
    assert [row["overlap"] for row in table3(records, "m").data or []] == [0 if known else None]


def test_one_record_speaks_for_older_ones_on_the_same_data() -> None:
    records = [with_overlap(record("lora", 1.0, 0, RIGHT), boolq=2), record("smt", 1.0, 0, RIGHT)]
    assert rows(records, table2)["SMT"][-3:] == ["50.0†", "100.0", "75.0†"]


def folder(root: Path, leak: int) -> str:
    def values(kind: str, count: int) -> list[dict[str, str]]:
        return [
            {"instruction": f"{kind} {i}?", "input": "", "output": "the correct answer is true", "answer": "true"}
            for i in range(count)
        ]

    place = root / "dataset" / "boolq"
    place.mkdir(parents=True)
    train = values("train", 40)
    (place / "train.json").write_text(json.dumps(train))
    leaked = [{**r, "instruction": r["instruction"].upper()} for r in train[:leak]]
    (place / "test.json").write_text(json.dumps([*leaked, *values("test", 5)]))
    return str(root)


def test_a_data_set_counts_what_is_trained_on_and_the_sweep_says_so(tmp_path: Path) -> None:
    found = loading.load(folder(tmp_path, 40), "commonsense", (), heldout=10, limit=None)
    assert found.overlap == {"boolq": 30}  # ten of the forty are held out
    assert found.overlap is found.overlap  # counted once per sweep
    assert overlap_warning(found) == ("training set boolq holds test questions (BoolQ 30 of 45): marked in the tables")


def test_clean_data_is_no_warning(tmp_path: Path) -> None:
    assert overlap_warning(loading.load(folder(tmp_path, 0), "commonsense", (), 10, None)) is None
    assert overlap_warning(loading.load(None, "commonsense", (), 10, None)) is None  # the embedded testbed


def test_a_run_records_the_counts(tmp_path: Path) -> None:
    from smt_bench.execute import execute
    from smt_bench.machine import fits
    from smt_bench.questions.planner import Planner
    from smt_bench.questions.request import Request

    source = folder(tmp_path / "data", 40)
    planner = Planner(Request("plateau", "tiny", source, preset="smoke", steps=1), fits.here())
    planner.open()
    run, _ = planner.run("base", None, 0)
    made = execute(run, planner.inputs())
    assert made["status"] == "done"
    assert (
        made["overlap"] == {"rule": RULE, "tests": planner.data.overlap, "repeated": 0}
        and made["overlap"]["tests"]["boolq"] > 0
    )
    assert "overlap" not in json.dumps(made["run"])  # recorded, not keyed


def test_run_says_what_it_left_out_and_marks_what_overlaps(cli: Cli, tmp_path: Path) -> None:
    source = folder(tmp_path / "data", 40)
    place = tmp_path / "data" / "dataset" / "boolq" / "train.json"
    train = json.loads(place.read_text())
    place.write_text(json.dumps([*train, {**train[0], "instruction": "Unanswered?", "output": ""}]))
    asked = ("run", "plateau", "--data", source, "--preset", "smoke", "--methods", "lora", "--steps", "1")
    assert "warning: training set boolq holds test questions" in cli(*asked, "--dry-run").stderr
    done = cli(*asked)
    assert done.returncode == 0, done.stderr
    assert "note: training set boolq: 1 without a response left out" in done.stderr
    assert "warning: training set boolq holds test questions" in done.stderr
    assert "†" in (tmp_path / "results" / "plateau" / "tiny" / "table3.md").read_text()

"""Records: nothing lost, nothing trusted that is damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import RUN

from smt_bench.machine.files import write_text
from smt_bench.records.runs import Run
from smt_bench.records.store import SCHEMA, Store
from smt_bench.records.trust import sealed


def record(run: Run = RUN, status: str = "done") -> dict:
    answers = {"gold": ["a"], "prediction": ["a"], "correct": [1], "parsed": [1], "loglik": [-0.5]}
    rates = {"n": 1, "accuracy": 1.0, "stderr": 0.0, "format_failures": 0, "format_failure_rate": 0.0}
    parts = {
        "heldout": {"nll": 0.25, "examples": {"loglik": [-0.5] * 100, "tokens": [2] * 100}},
        "evaluation": {"facts-2": {**rates, "protocol": "likelihood", "examples": answers}},
        "seconds": {"total": 1.0},
        "capacity": {"unit": "rank", "units": 1, "trainable": 1, "total": 100, "fraction": 0.01},
    }
    return {"schema": SCHEMA, "key": run.key, "run": run.to_dict(), "status": status, "message": None, **parts}


def test_write_read_list(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record())
    assert store.read(RUN.key) == record()
    assert store.records() == [record()]
    assert store.missing([RUN, replace(RUN, seed=1)]) == [replace(RUN, seed=1)]
    assert store.resolve(RUN.key[:5])["key"] == RUN.key
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [f"{RUN.key}.json"]


def test_finished_records_are_never_overwritten_and_failed_ones_are_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record(status="failed"))
    assert store.missing([RUN]) == [RUN]
    store.write(record())
    with pytest.warns(UserWarning, match="kept as it is"):
        store.write(record() | {"message": "another"})
    assert store.read(RUN.key) == record()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', "null", b"\xff\xfe"])
def test_damaged_records_are_left_out_and_left_alone(tmp_path: Path, content: str | bytes) -> None:
    store = Store(tmp_path)
    store.write(record(replace(RUN, seed=1)))
    path = store.path(RUN.key)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.warns(UserWarning, match=f"{RUN.key}.json left out"):
        assert len(store.records()) == 1
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert store.missing([RUN]) == [RUN]


@pytest.mark.parametrize(
    "change", [{"status": "weird"}, {"status": ["done"]}, {"evaluation": "x"}, {"schema": True}, {"schema": "1"}]
)
def test_records_that_say_nonsense_are_left_out(change: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_text(store.path(RUN.key), sealed(record() | change))
    with pytest.warns(UserWarning, match="left out"):
        assert store.read(RUN.key) is None


def test_edited_records_are_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    changed = record()
    changed["run"]["train"]["lr"] = 5.0
    write_text(store.path(RUN.key), sealed(changed))
    with pytest.warns(UserWarning, match="does not match its key"):
        assert store.read(RUN.key) is None


def test_newer_records_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_text(store.path(RUN.key), json.dumps(record() | {"schema": SCHEMA + 1}))
    with pytest.raises(ValueError, match="update smt-bench"):
        store.read(RUN.key)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_unusable_results_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="choose another with --results"):
        Store(tmp_path / "file").check_writable()


def test_unknown_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no record"):
        Store(tmp_path).resolve("abc")

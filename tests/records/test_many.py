"""Many records, and many processes on one index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

from smt_bench.experiments.accuracy import plateau
from smt_bench.records import exclusive, store
from smt_bench.records.index import Index
from smt_bench.records.partial import Partial, shrunk, whole
from smt_bench.records.store import Store

REFERENCE = ROOT / "results" / "reference"
PLATEAU = json.loads((REFERENCE / "plateau/tiny/runs.json").read_text())["settings"]["d2345fbada7fa5af"]
ADD = """
import sys
from dataclasses import replace
from pathlib import Path
from smt_bench.records.index import Index
from smt_bench.records.runs import question
from smt_bench.records.store import Store
first, count, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
run = question(Store(Path(sys.argv[4])).records()[0]["run"])
for seed in range(first, first + count):
    Index.read(place).add([replace(run, seed=seed)])
"""


def adding(first: int, count: int, place: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ADD, str(first), str(count), str(place), str(REFERENCE)])


def test_two_processes_on_one_index_lose_nothing(tmp_path: Path) -> None:
    both = [adding(first, 120, tmp_path) for first in (1000, 2000)]
    assert [process.wait(200) for process in both] == [0, 0]
    index = Index.read(tmp_path)
    assert len(set(index.keys)) == len(index.keys) == len(index.names) == 240
    assert [p.name for p in tmp_path.iterdir()] == ["runs.json"]


def test_an_index_is_read_again_before_tables_are_written(tmp_path: Path) -> None:
    from smt_bench.records.runs import question

    runs = [question(r["run"]) for r in Store(REFERENCE).records(PLATEAU[:3])]
    mine = Index.read(tmp_path)
    mine.add(runs[:1])
    Index.read(tmp_path).add(runs[1:])  # another process
    assert mine.keys == [runs[0].key]
    assert mine.again().keys == [run.key for run in runs]


def test_the_lock_of_an_index_whose_owner_died_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / ".lock"
    dead = {"token": "t", "place": exclusive.process.place(), "pid": os.getpid(), "start": "1"}
    lock.write_text(json.dumps(dead))
    with exclusive.alone(lock, "it"):
        assert exclusive.owner_of(lock)["pid"] == os.getpid()
    assert not lock.exists()
    lock.write_text(json.dumps({**dead, "place": "another machine"}))
    os.utime(lock, (2**40, 2**40))  # dated in the far future
    monkeypatch.setattr(exclusive, "SILENT", 0.3)
    with exclusive.alone(lock, "it"):
        pass


def test_waiting_for_a_lock_says_what_for_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / ".lock"
    lock.write_text(json.dumps(exclusive.process.myself()))  # alive
    monkeypatch.setattr(exclusive, "SAYS", 0.1)
    monkeypatch.setattr(exclusive, "PATIENCE", 0.4)
    mine = rf"process {os.getpid()} on .*"
    with (
        pytest.warns(UserWarning, match=f"waiting for the index: {mine} has .*lock"),
        pytest.raises(ValueError, match=f"the index: {mine} does not end; if it is gone, remove .*lock"),
        exclusive.alone(lock, "the index"),
    ):
        pytest.fail("taken from a living process")


def test_a_newer_index_is_refused_and_stays(tmp_path: Path) -> None:
    index = {"schema": 2, "latest": None, "settings": {}, "names": {}}
    for values in (index, {**index, "schema": 1, "groups": {}}):
        (tmp_path / "runs.json").write_text(json.dumps(values))
        with pytest.raises(ValueError, match=r"runs.json was written by a newer version: update smt-bench"):
            Index.read(tmp_path)
    for values in (
        [],
        {"schema": 1, "latest": 3, "settings": {}},
        {"schema": 1, "latest": None, "settings": {"a": "b"}},
    ):
        (tmp_path / "runs.json").write_text(json.dumps(values))
        with pytest.warns(UserWarning, match="is damaged"):
            assert Index.read(tmp_path).keys == []


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return list(value) if not isinstance(value, str | int | float | None | bool) else value


def test_a_record_for_tables_is_the_record() -> None:
    here = Store(REFERENCE)
    for key in PLATEAU[:12]:
        full, reads = here.read(key), list[str]()
        assert full is not None

        def read(key: str, reads: list[str] = reads) -> Any:
            reads.append(key)
            return here.read(key)

        small = whole(shrunk(json.loads(json.dumps(full)), {}), read)
        assert small["evaluation"]["facts-2"]["accuracy"] == full["evaluation"]["facts-2"]["accuracy"] and not reads
        relabelled = small | {"status": "other"}
        assert relabelled["status"] == "other" and not reads
        assert relabelled["training"] == full["training"] and small.get("method") == full["method"] and len(reads) == 2
        assert {name: plain(part) for name, part in small.items()} == plain(full)
        assert "nothing" not in small and small.get("nothing") is None
    with pytest.raises(KeyError):
        small["nothing"]
    assert isinstance(small["evaluation"]["facts-2"]["examples"], Partial)


def test_several_processes_read_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    for key in PLATEAU:
        (runs / f"{key}.json").write_bytes((REFERENCE / "runs" / f"{key}.json").read_bytes())
    (runs / f"{PLATEAU[7]}.json").write_text("{half")
    with pytest.warns(UserWarning, match="left out"):
        alone = Store(tmp_path).for_tables(PLATEAU)
    monkeypatch.setattr(store, "MANY", 10)
    monkeypatch.setattr(store, "SHARE", 20)
    with pytest.warns(UserWarning, match=f"record {PLATEAU[7]}.json left out"):
        shared = Store(tmp_path).for_tables(PLATEAU)
    assert [r["key"] for r in shared] == [k for k in PLATEAU if k != PLATEAU[7]]
    assert [plain(r) for r in shared] == [plain(r) for r in alone]
    assert plateau.Plateau().render(shared, tmp_path / "a", "tiny") and plateau.Plateau().render(
        alone, tmp_path / "b", "tiny"
    )
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def peaks(records: int) -> dict[str, int]:
    """Peak memory by command, in MB; from a small process, whose own peak its children would start with."""
    command = [sys.executable, str(ROOT / "tests" / "many_records.py"), "--records", str(records)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900).stdout
    return {line[:24].strip(): int(line.split()[-2]) for line in said.splitlines()[1:]}


@pytest.mark.long
def test_four_thousand_records_need_little_memory() -> None:
    """All of them would take 700 MB; `python tests/many_records.py` has the times of 20,000.

    The report's page holds what it shows of every run beside what tables read: 34 KB each, and what is made of both.
    """
    few, many = peaks(100), peaks(4000)
    most = dict.fromkeys(many, 130) | {"report": 250}  # `table` 99 alone, beside another test once above 100
    assert {name: many[name] - few[name] < most[name] for name in many} == dict.fromkeys(many, True)


def test_of_very_many_damaged_records_some_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    keys = [f"{number:016x}" for number in range(3 * store.NAMED)]
    for key in keys:
        (runs / f"{key}.json").write_text("{half")
    rest = f"{2 * store.NAMED} more records are left out, not named here: see `python -m smt_bench status`"
    for many in (len(keys) + 1, 1):  # in this process, and in several
        monkeypatch.setattr(store, "MANY", many)
        here = Store(tmp_path)
        with pytest.warns(UserWarning) as said:
            assert here.for_tables(keys) == [] == here.records() and len(here.missing([])) == 0
        lines = [str(warning.message) for warning in said]
        assert lines == [f"record {key}.json left out: it is not complete JSON" for key in keys[: store.NAMED]] + [rest]
    with pytest.warns(UserWarning) as said:
        assert Store(tmp_path).records() == []  # one by one, as a sweep reads them
    assert len(said) == store.NAMED + 1 and str(said[-1].message).startswith("more records are left out")
    with pytest.warns(UserWarning) as said:
        assert Store(tmp_path).for_tables(keys[: store.NAMED]) == []
    assert len(said) == store.NAMED

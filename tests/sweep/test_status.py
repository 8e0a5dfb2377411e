"""What `status` tells of a sweep from outside: what runs where, what is left, what is damaged."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Cli
from short_runs import question

from smt_bench.records.index import Index
from smt_bench.records.store import NAMED, Store
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.status import collect, show_status


def test_status_knows_every_setting_and_names_a_damaged_index(tmp_path: Path, cli: Cli) -> None:
    place, run = tmp_path / "plateau" / "tiny", question("smt")[0]
    other = replace(run, train=replace(run.train, steps=7))
    assert other.setting != run.setting
    Index.read(place).add([run])
    Index.read(place).add([other])
    assert {row["key"] for row in collect(Store(tmp_path))} == {run.key, other.key}
    (place / "runs.json").write_text("{bad")
    done = cli("status", "--results", str(tmp_path))
    assert done.returncode == 0 and "runs.json is damaged (it is not complete JSON)" in done.stderr
    assert (place / "runs.json").read_text() == "{bad"  # looking changes nothing
    with pytest.warns(UserWarning, match="set aside as runs.json.damaged"):
        Index(place, {}, None).add([run])
    assert (place / "runs.json.damaged").read_text() == "{bad" and Index.read(place).keys == [run.key]


def test_status_tells_what_runs_where_and_what_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    running, waiting = question("smt")[0], question("dora")[0]
    crashed = replace(running, seed=5)
    Index.read(tmp_path / "plateau" / "tiny").add([running, waiting, crashed])
    held = Locks(store.runs).take(running.key)
    assert held is not None
    Locks(store.runs).path(crashed.key).write_text(json.dumps({**held.owner, "pid": 2**22 + 1}))
    for step in (1, 2, 3):
        held.say("train", step, 10)
        time.sleep(0.02)
    held.start(lambda: None)
    deadline = time.monotonic() + 30
    while not Locks(store.runs).progress(running.key) and time.monotonic() < deadline:
        time.sleep(0.05)
    rows = {row["key"]: row for row in collect(store)}
    held.release()
    row = rows[running.key]
    assert (row["status"], row["run"], row["experiment"]) == ("running", "smt 4 % seed 0", "plateau/tiny")
    assert (row["phase"], row["done"], row["total"], row["pid"]) == ("train", 3, 10, os.getpid())
    assert row["eta_seconds"] >= 0 and row["since"] and row["host"]
    assert rows[waiting.key]["status"] == "missing"
    assert rows[crashed.key]["status"] == "interrupted"


def test_status_counts_very_many_damaged_files_and_names_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    store.runs.mkdir()
    for number in range(NAMED + 5):
        store.path(f"{number:016x}").write_text("{half")
    show_status(tmp_path, as_json=False)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"runs: {NAMED + 5} other files: {NAMED + 5} damaged"
    assert len(lines) == NAMED + 1 and lines[-1] == "  and 5 more damaged: `status --json` lists all"
    show_status(tmp_path, as_json=True)
    assert len(json.loads(capsys.readouterr().out)) == NAMED + 5

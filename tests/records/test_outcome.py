"""Failed records name no folder of the machine they were made on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers import ROOT
from made_up import run

from smt_bench.records.outcome import portable, recorded
from smt_bench.records.store import Record
from smt_bench.sweep.deaths import failure


def test_messages_and_tracebacks_hold_no_machines_paths(tmp_path: Path) -> None:
    def fill(record: Record) -> None:
        raise KeyError("here")

    def lost(record: Record) -> None:
        (tmp_path / "deep" / "model.safetensors").read_bytes()

    record = recorded(run("smt", 1.0), fill)
    assert any('File "smt_bench/records/outcome.py", line' in line for line in record["traceback"])
    record = recorded(run("smt", 1.0), lost)
    assert record["message"] == "FileNotFoundError: [Errno 2] No such file or directory: '.../model.safetensors'"
    assert any('File "pathlib' in line for line in record["traceback"])
    for text in (str(ROOT), str(tmp_path), str(Path.home()) + "/", os.__file__):
        assert text not in json.dumps([record["message"], record["traceback"]])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model /scratch/jane/llama: 3 missing (a.b)", "model .../llama: 3 missing (a.b)"),
        ("see https://example.org/a/b and org/name, 3/4 of it", "see https://example.org/a/b and org/name, 3/4 of it"),
        ("cannot open '/data/x y/z.json'", "cannot open '.../x y/z.json'"),
        ("folder results/runs", "folder results/runs"),
    ],
)
def test_portable(text: str, told: str) -> None:
    assert portable(text) == told


def test_home_is_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/Jane Doe")
    assert portable("in /home/Jane Doe/models/own") == "in ~/models/own"


def test_so_do_the_logs_of_processes_that_died() -> None:
    log = ['  File "/opt/venv/lib/python3.12/site-packages/torch/x.py", line 3, in f']
    assert failure(run("smt", 1.0), "see /home/jane/logs/w.log", log)["traceback"] == [
        '  File ".../x.py", line 3, in f'
    ]

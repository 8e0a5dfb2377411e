"""Seeds that are added after a look: their tables wait for the last of them, and the claims' p values pay for it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from helpers import ROOT

from smt_bench import experiments
from smt_bench.cli.draw import render
from smt_bench.questions import analysis
from smt_bench.records.index import Index
from smt_bench.records.runs import Run
from smt_bench.records.store import Store

REFERENCE = ROOT / "results" / "reference"
QKV = experiments.find("qkv")


def claims(folder: Path) -> list[dict[str, str]]:
    with (folder / "table6_claims.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_p_values_count_by_looks(tmp_path: Path) -> None:
    committed = Store(REFERENCE)
    there = [committed.read(key) for key in Index.read(REFERENCE / "qkv" / "tiny").keys]
    runs = [Run.from_dict(record["run"]) for record in there if record is not None]
    last = max(run.seed for run in runs)
    first = [run for run in runs if run.seed < last]
    assert len({run.seed for run in first}) > 1

    for name, asked in (("once", [runs]), ("twice", [first, runs])):
        folder = tmp_path / name
        for planned in asked:
            Index.read(folder).add(planned)
            analysis.declare(QKV, planned, folder, committed)
        render(QKV, committed, Index.read(folder), folder, "tiny", shown=False)
    pairs = list(zip(claims(tmp_path / "once"), claims(tmp_path / "twice"), strict=True))
    assert len(pairs) == 3
    for once, twice in pairs:
        assert float(twice["p"]) == pytest.approx(min(1.0, 2 * float(once["p"])), rel=1e-6)
        assert once["difference"] == twice["difference"] and once["low"] == twice["low"]
    for table in ("table6.md", "table6_claims.md"):
        assert "The claims were looked at 2 times" in (tmp_path / "twice" / table).read_text()

    # One run of the second look missing: the table is that of the first.
    some = Store(tmp_path / "some")
    some.runs.mkdir(parents=True)
    for run in runs[:-1] if runs[-1].seed == last else runs[1:]:
        (some.runs / f"{run.key}.json").write_bytes((REFERENCE / "runs" / f"{run.key}.json").read_bytes())
    render(QKV, some, Index.read(tmp_path / "twice"), tmp_path / "part", "tiny", shown=False)
    render(
        QKV,
        committed,
        Index(tmp_path, {first[0].setting: [r.key for r in first]}, first[0].setting),
        tmp_path / "two",
        "tiny",
    )
    assert claims(tmp_path / "part") == claims(tmp_path / "two")
    assert (
        f"(seed {last}) are not shown before the last of them: 1 missing"
        in (tmp_path / "part" / "table6.md").read_text()
    )

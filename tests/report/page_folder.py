"""A results folder for the page: the committed plateau on `tiny`, and beside it a run and a table with hostile text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from helpers import ROOT
from made_up import record

from smt_bench.records.index import Index
from smt_bench.records.runs import question
from smt_bench.records.store import Store
from smt_bench.report.table import Table

REFERENCE = ROOT / "results" / "reference"
PLACE = "plateau/tiny"
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


def fill(folder: Path) -> list[str]:
    """Writes the folder; the keys of the committed records."""
    index = json.loads((REFERENCE / PLACE / "runs.json").read_text(encoding="utf-8"))
    keys: list[str] = index["settings"][index["latest"]]
    shutil.copytree(REFERENCE / PLACE, folder / PLACE, ignore=shutil.ignore_patterns("tuning", "math"))
    (folder / "runs").mkdir()
    for key in keys:
        shutil.copy(REFERENCE / "runs" / f"{key}.json", folder / "runs")
    asked = _of(folder, keys, ("lora", "dora"))
    _tuning(folder / PLACE / "tuning", [k for k in keys if k in asked])
    store = Store(folder)
    bad = record("lora", 1.0, model=HOSTILE) | {"status": "failed", "message": HOSTILE}
    for part in ("evaluation", "heldout"):
        bad.pop(part, None)
    store.write(bad)
    Index.read(folder / "hostile" / "x").add([question(bad["run"])])
    table = Table(
        HOSTILE,
        ["a", HOSTILE],
        [["=1+1", f"[x](javascript:alert(1)) ![y](http://z/) {HOSTILE}"], ["b", "2"]],
        [HOSTILE],
    )
    table.write(folder / "hostile" / "x", "table")
    return keys


def _of(folder: Path, keys: list[str], methods: tuple[str, ...]) -> set[str]:
    return {r["key"] for r in Store(folder).records(keys) if r["run"]["method"]["name"] in methods}


def _tuning(folder: Path, keys: list[str]) -> None:
    """A finished tuning whose trials are some of the runs, as `tune` would leave it."""
    folder.mkdir()
    spaces = {"lora": {"spans": {"dropout": {"low": 0.0, "high": 0.2}}}, "dora": {"spans": {}}}
    said = {"declared": {"spaces": spaces}, "winners": {"lora": {"lr": 2e-3, "keys": keys[:1]}}}
    values = {"schema": 1, "latest": "ab", "tunings": {"ab": said}}
    (folder / "tuning.json").write_text(json.dumps(values), encoding="utf-8")
    index = {"schema": 1, "latest": "s", "settings": {"s": keys}, "names": {}}
    (folder / "runs.json").write_text(json.dumps(index), encoding="utf-8")
    lines = [
        "method,trials,seconds,median_best,low,high",
        "lora,1,3,0.5,0.4,0.7",
        "lora,2,6,0.45,,0.6",
        "dora,1,3,0.6,0.5,",
    ]
    (folder / "tuning_curve.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

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
    shutil.copytree(REFERENCE / PLACE, folder / PLACE)
    (folder / "runs").mkdir()
    for key in keys:
        shutil.copy(REFERENCE / "runs" / f"{key}.json", folder / "runs")
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

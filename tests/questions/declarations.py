"""Declared runs of an experiment in a folder, and what tables say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from smt_bench import experiments
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.questions import analysis, deviations
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.index import Index
from smt_bench.records.runs import Run
from smt_bench.records.store import Store


def runs(experiment: str = "plateau", **asked: Any) -> list[Run]:
    planner = Planner(Request(experiment, "tiny", **{"fractions_pct": (2.0, 8.0), **asked}), fits.here())
    planner.open()
    return [run for run, _ in experiments.find(experiment).runs(planner)]  # type: ignore[misc]


def below(planned: list[Run], folder: Path) -> list[str]:
    """What stands below a table of these runs, all of them done."""
    records = [{"key": run.key, "run": run.to_dict(), "status": "done"} for run in planned]
    return told_of(folder, records)


def told_of(folder: Path, records: list[dict[str, Any]]) -> list[str]:
    index = Index.read(folder)
    return deviations.lines(Plateau(), index, analysis.seen(index, records))


def missing(folder: Path, records: list[dict[str, Any]]) -> int:
    found = analysis.seen(Index.read(folder), records)
    assert not found.looks or (found.times == 0) is (found.looks[0].missing > 0)
    return found.looks[0].missing if found.looks else 0


def done(planned: list[Run]) -> list[dict[str, Any]]:
    return [{"key": run.key, "run": run.to_dict(), "status": "done"} for run in planned]


def asks(folder: Path, makes: bool = True, **asked: Any) -> list[Run]:
    """What `run` does before its first run; then all records, if it `makes` them."""
    planned = runs(**{"methods": ("smt", "lora", "full"), **asked})
    index = Index.read(folder)
    listed = index.settings.get(planned[0].setting, [])
    index.add(planned)
    analysis.declare(Plateau(), planned, folder, Store(folder), listed)
    (folder / "runs").mkdir(exist_ok=True)
    for run in planned if makes else ():
        (folder / "runs" / f"{run.key}.json").write_text("{}")
    return planned


def kept(folder: Path) -> dict[str, Any]:
    (one,) = json.loads((folder / analysis.FILE).read_text())["analyses"].values()
    return one


def shown(folder: Path, planned: list[Run]) -> tuple[set[str], int]:
    found = analysis.seen(Index.read(folder), done(planned))
    return {r["key"] for r in found.records}, found.times

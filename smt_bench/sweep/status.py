"""How far the sweeps in a results folder are: what is done, running (where, since when, how long still), failed, missing."""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from smt_bench.machine.borders import terminal
from smt_bench.records.files import BenchWarning
from smt_bench.records.index import INDEX, Index
from smt_bench.records.store import NAMED, Store
from smt_bench.records.survey import Found, Survey, survey
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.slurm import queued
from smt_bench.training.checkpoint import checkpoints

ORDER = (
    *("running", "queued", "interrupted", "failed", "out_of_memory", "diverged", "damaged", "newer", "missing"),
    *("set aside", "foreign", "done"),
)
SILENT = ("set aside", "done")  # need no line each
OUT = ("damaged", "newer", "foreign")  # files that stand for no run's outcome: of very many, some are named


def collect(store: Store, files: Survey | None = None) -> list[dict[str, Any]]:
    """One row per run that some sweep in this folder planned, by experiment, and one per file that is no record of any.

    Args:
        store: the results folder, which stays as it is.
        files: what lies among the records, where that is known.

    Returns:
        Rows with `experiment` (the folder of its tables; "runs" for other files), `key` (of other files the name), `run` (in a
        few words), `status` (a record's, or "running", "queued" by SLURM, "interrupted", "missing", "damaged", "newer",
        "set aside" or "foreign") and, where known: `host`, `pid`, `job` and `state` (SLURM's), `since`, `phase`, `done`,
        `total`, `eta_seconds` (until the end of the phase, at its pace so far), `checkpoint_step`, `message`.
    """
    locks, waiting = Locks(store.runs), queued(store)
    found = files or survey(store.runs)
    records = {file.key: file for file in found.files if file.state not in ("set aside", "foreign")}
    rows = []
    for path in sorted(store.root.rglob(INDEX)):
        index = Index.read(path.parent)
        place = str(path.parent.relative_to(store.root))
        for key in dict.fromkeys(key for keys in index.settings.values() for key in keys):
            row: dict[str, Any] = {"experiment": place, "key": key, "run": index.names.get(key, "")}
            row |= _state(key, records.get(key), store, locks)
            if row["status"] in ("interrupted", "missing") and key in waiting:
                row |= {**waiting[key], "status": "queued"}
            rows.append(row)
    planned = {row["key"] for row in rows}
    for file in found.files:
        if file.state != "record" and (file.state in ("set aside", "foreign") or file.key not in planned):
            rows.append({"experiment": "runs", "key": file.name, "run": "", "status": file.state, "message": file.why})
    return rows


def _state(key: str, file: Found | None, store: Store, locks: Locks) -> dict[str, Any]:
    if file is not None and file.head is not None:
        failed = file.head["status"] != "done"
        return {"status": file.head["status"], **({"message": file.head["message"]} if failed else {})}
    states = sorted(checkpoints(store, key).folder.glob("[0-9]*.pt"))
    known: dict[str, Any] = {"checkpoint_step": int(states[-1].name[:8])} if states else {}
    owner = locks.owner(key)
    if owner is None or not locks.alive(key, owner):
        if file is not None:
            return {"status": file.state, "message": file.why}
        return {"status": "interrupted" if known or owner is not None else "missing", **known}
    known |= {name: owner[name] for name in ("host", "pid", "job", "since") if owner.get(name) is not None}
    said = locks.progress(key)
    known |= {name: said[name] for name in ("phase", "done", "total") if name in said}
    if said and said["done"] > said["first"]:
        pace = (said["at"] - said["first_at"]) / (said["done"] - said["first"])
        known["eta_seconds"] = round(max(0.0, (said["total"] - said["done"]) * pace - (time.time() - said["at"])))
    return {"status": "running", **known}


def _line(row: dict[str, Any]) -> str:
    parts = [f"  {row['key']}  {row['status']:<13} {row['run']}"]
    if "host" in row:
        job = f" job {row['job']}" if "job" in row else ""
        parts.append(f"on {row['host']} process {row['pid']}{job} since {row['since']}")
    elif "job" in row:
        parts.append(f"job {row['job']} {row['state']}")
    if "phase" in row:
        parts.append(f"{row['phase']} {row['done']}/{row['total']}")
    if "eta_seconds" in row:
        minutes, seconds = divmod(row["eta_seconds"], 60)
        parts.append(f"ETA {minutes // 60}:{minutes % 60:02}:{seconds:02}")
    if row["status"] in ("interrupted", "queued") and "checkpoint_step" in row:
        parts.append(f"goes on from step {row['checkpoint_step']}")
    if row.get("message"):
        parts.append(row["message"])
    return "  ".join(parts)


def show_status(results: Path, as_json: bool) -> None:
    """Prints the rows, or as text what is not done."""
    store = Store(results)
    files = survey(store.runs)
    rows = collect(store, files)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for experiment in dict.fromkeys(row["experiment"] for row in rows):
        own = [row for row in rows if row["experiment"] == experiment]
        counts = Counter(row["status"] for row in own)
        what = "other files" if experiment == "runs" else "runs"
        told = ", ".join(f"{counts[s]} {s}" for s in ORDER if counts[s])
        print(terminal(f"{experiment}: {len(own)} {what}: {told}"))
        for state in ORDER:
            those = [row for row in own if row["status"] == state] if state not in SILENT else []
            shown = those[:NAMED] if state in OUT else those
            for row in shown:
                print(terminal(_line(row)))
            if len(shown) < len(those):
                print(f"  and {len(those) - len(shown):,} more {state}: `status --json` lists all")
    if not files.closely:
        told = f"{len(files.files):,} files: only the beginning of each record was read, `table` checks what it uses"
        warnings.warn(told, BenchWarning, stacklevel=2)

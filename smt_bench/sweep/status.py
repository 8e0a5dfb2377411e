"""How far the sweeps in a results folder are: what is done, running (where, since when, how long still), failed, missing."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from smt_bench.machine.borders import terminal
from smt_bench.records.index import INDEX, Index
from smt_bench.records.store import Store
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.slurm import queued
from smt_bench.training.checkpoint import checkpoints

ORDER = ("running", "queued", "interrupted", "failed", "out_of_memory", "diverged", "missing", "done")


def collect(store: Store) -> list[dict[str, Any]]:
    """One row per run that some sweep in this folder planned, by experiment.

    Returns:
        Rows with `experiment` (the folder of its tables), `key`, `run` (in a few words), `status` (a record's, or "running",
        "queued" by SLURM, "interrupted" or "missing") and, where known: `host`, `pid`, `job` and `state` (SLURM's), `since`,
        `phase`, `done`, `total`, `eta_seconds` (until the end of the phase, at its pace so far), `checkpoint_step`, `message`.
    """
    locks, waiting = Locks(store.runs), queued(store)
    rows = []
    for path in sorted(store.root.rglob(INDEX)):
        index = Index.read(path.parent)
        for key in dict.fromkeys(key for keys in index.settings.values() for key in keys):
            place = str(path.parent.relative_to(store.root))
            row: dict[str, Any] = {"experiment": place, "key": key, "run": index.names.get(key, "")}
            row |= _state(key, store, locks)
            if row["status"] in ("interrupted", "missing") and key in waiting:
                row |= {**waiting[key], "status": "queued"}
            rows.append(row)
    return rows


def _state(key: str, store: Store, locks: Locks) -> dict[str, Any]:
    record = store.read(key)
    if record is not None:
        failed = record["status"] != "done"
        return {"status": record["status"], **({"message": record["message"]} if failed else {})}
    states = sorted(checkpoints(store, key).folder.glob("[0-9]*.pt"))
    known: dict[str, Any] = {"checkpoint_step": int(states[-1].name[:8])} if states else {}
    owner = locks.owner(key)
    if owner is None or not locks.alive(key, owner):
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
    rows = collect(Store(results))
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for experiment in dict.fromkeys(row["experiment"] for row in rows):
        own = [row for row in rows if row["experiment"] == experiment]
        counts = Counter(row["status"] for row in own)
        print(terminal(f"{experiment}: {len(own)} runs: ") + ", ".join(f"{counts[s]} {s}" for s in ORDER if counts[s]))
        for state in ORDER[:-1]:  # what is done needs no line
            for row in own:
                if row["status"] == state:
                    print(terminal(_line(row)))

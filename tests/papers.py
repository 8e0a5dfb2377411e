"""What tests of the papers' tables share: made-up SMT records, and readers of what was written."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_up import record

from smt_bench.records.runs import Run
from smt_bench.records.store import Record
from smt_bench.report.table import Table

HALF = {"boolq": [1, 0, 1, 0], "piqa": [1, 0]}
PAPERS = {"model": "llama-7b", "protocol": "llm-adapters"}
N = 400
BASE = {
    "targets": ["q_proj", "k_proj", "v_proj"], "block_size": 32, "metric": "mean_abs", "scope": "global", "warmup_steps": 5,
    "warmup_trains": True, "warmup_lr_scale": 0.3,
}  # fmt: skip


def smt(seed: int, share: float, tasks: Sequence[str] = ("boolq",), fraction: float = 2.0, **changes: Any) -> Record:
    """An SMT record that answers this share of the examples rightly; changes of its config, `model`, `protocol`, `nll`."""
    rng = np.random.default_rng((seed, round(1000 * share)))
    right = {t: (rng.permutation(N) < share * N).astype(int).tolist() for t in tasks}
    made = record("smt", fraction, seed, right, nll=changes.pop("nll", 2 - share), model=changes.pop("model", "tiny"))
    made["run"]["evaluation"]["protocol"] = changes.pop("protocol", "likelihood")
    made["run"]["method"]["config"] = {**BASE, **changes}
    made["key"] = Run.from_dict(made["run"]).key
    return made


def cells(table: Table) -> dict[str, dict[str, str]]:
    return {str(r[0]): dict(zip(table.header[1:], r[1:])) for r in table.rows}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def measured(kind: str, settings: dict[str, Any], result: dict[str, Any], seed: int) -> Record:
    return {
        "key": f"{seed}",
        "status": "done",
        "run": {"kind": kind, "settings": settings, "seed": seed},
        "result": result,
    }

"""Does SMT's warm-up have to train? Blocks chosen by a frozen warm-up against those of a training one, and what follows.

Question behind it: with a frozen warm-up the block scores of `mean_abs` need no weight gradient, no dense optimizer state and
no offloading (`methods/smt/pooled.py`), so that SMT never needs more memory than its tuning phase. That is worth nothing if
it chooses other blocks or ends elsewhere. The paper has no such table: its warm-up steps are full fine-tuning steps.

Both runs differ in `warmup_trains` alone: same data order, same number of steps. The training one has also learned during
its warm-up, so an advantage of it is not one of its blocks.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smt_bench.evidence.group import Answers, heldout_of
from smt_bench.evidence.interval import Estimate, contrast
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import family_title
from smt_bench.questions.experiment import OneMethodExperiment
from smt_bench.questions.grid import Cell, grid
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record
from smt_bench.report.conditions import divided
from smt_bench.report.notes import made_with
from smt_bench.report.numbers import written
from smt_bench.report.table import Table


def _blocks(record: Record) -> set[tuple[str, int, int]]:
    return {(name, row, column) for name, found in record["method"]["blocks"].items() for row, column in found}


def _accuracy(record: Record) -> float:
    return 100 * float(statistics.mean(task["accuracy"] for task in record["evaluation"].values()))


def _written(values: Sequence[float], digits: int) -> str | None:
    mean, half = mean_ci(values)
    return written(mean, digits, half)


def _apart(both: Sequence[dict[bool, Record]]) -> Estimate:
    """Accuracy of the frozen warm-up minus that of the training one (points), over new seeds and new examples."""
    tasks = sorted(both[0][True]["evaluation"])
    sides = [Answers([p[kind] for p in both]).side(tasks) for kind in (False, True)]
    return contrast([(sign, side) for sign, side in zip((1.0, -1.0), sides) if side is not None])


def _row(fraction: float, both: Sequence[dict[bool, Record]]) -> dict[str, Any]:
    overlap = [100 * len(_blocks(p[True]) & _blocks(p[False])) / len(_blocks(p[True])) for p in both]
    units, capacity = both[0][True]["capacity"]["units"], both[0][True]
    chance = 100 * units / capacity["method"]["blocks_available"]
    accuracy = {kind: [_accuracy(p[kind]) for p in both] for kind in (True, False)}
    heldout = {kind: [heldout_of(p[kind]) for p in both] for kind in (True, False)}
    nll = {kind: [h.nll for h in found if h is not None] for kind, found in heldout.items()}
    seconds = {kind: statistics.median(p[kind]["seconds"]["warmup"] for p in both) for kind in (True, False)}
    known = all(len(values) == len(both) for values in nll.values())
    apart = _apart(both)
    low, high = apart.interval() or (None, None)
    return {
        "fraction_pct": 100 * fraction,
        "blocks": units,
        "overlap_pct": statistics.mean(overlap),
        "chance_pct": chance,
        "accuracy_training": statistics.mean(accuracy[True]),
        "accuracy_frozen": statistics.mean(accuracy[False]),
        "difference": apart.value,
        "difference_low": low,
        "difference_high": high,
        "heldout_nll_training": statistics.mean(nll[True]) if known else None,
        "heldout_nll_frozen": statistics.mean(nll[False]) if known else None,
        "warmup_s_training": seconds[True],
        "warmup_s_frozen": seconds[False],
        "n_seeds": len(both),
        "keys": " ".join(r["key"] for p in both for r in p.values()),
        "cells": [
            f"{100 * fraction:g}",
            units,
            _written(overlap, 0),
            f"{chance:.0f}",
            _written(accuracy[True], 1),
            _written(accuracy[False], 1),
            written(apart.value, 1, between=apart.interval(), signed=True),
            _written(nll[True], 3) if known else "",
            _written(nll[False], 3) if known else "",
            f"{seconds[True]:.1f}",
            f"{seconds[False]:.1f}",
        ],
    }


class FrozenWarmup(OneMethodExperiment):
    """SMT against itself under two warm-ups."""

    name = "frozen-warmup"
    reproduces = "no table of the papers: blocks and results of a warm-up that only looks against one that trains"
    method = "smt"
    needs = "any model; commonsense (default) or math tasks"

    def cells(self, planner: Planner) -> list[Cell]:
        """Fractions x (training, frozen)."""
        return grid(planner, ["smt"], variants=[{"warmup_trains": trains} for trains in (True, False)])

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """One row per fraction: overlap of the blocks, then accuracy and held-out loss of both."""
        pairs: dict[float, dict[int, dict[bool, Record]]] = {}
        for record in records:
            run = record["run"]
            if record["status"] == "done":
                by_seed = pairs.setdefault(run["method"]["fraction"], {})
                by_seed.setdefault(run["seed"], {})[run["method"]["config"]["warmup_trains"]] = record
        data, cells = [], []
        for fraction, by_seed in sorted(pairs.items()):
            both = [pair for pair in by_seed.values() if len(pair) == 2]
            if not both:
                continue
            row = _row(fraction, both)
            data.append({k: v for k, v in row.items() if k != "cells"})
            cells.append(row["cells"])
        sample = records[0]["run"]
        config = sample["method"]["config"]
        notes = [
            f"{sample['train']['steps']} steps, {config['warmup_steps']} of them warm-up; metric {config['metric']}, scope "
            f"{config['scope']}; {max((r['n_seeds'] for r in data), default=0)} seed(s), ± is the 95 % interval over them",
            "blocks in common: of the blocks chosen by the training warm-up, those that the frozen one chose too; by chance: "
            "what a random choice of as many blocks would share",
            "difference: frozen minus training, [low, high] 95 % over new seeds and new examples; the training warm-up has also "
            "learned while it looked",
            "warm-up, s: of the whole warm-up, on a machine that did other work as well",
            *divided(sample),
            made_with(records),
        ]
        header = [
            "trainable, %", "blocks", "in common, %", "by chance, %", "accuracy, training", "accuracy, frozen", "difference",
            "held-out NLL, training", "held-out NLL, frozen", "warm-up, s, training", "warm-up, s, frozen",
        ]  # fmt: skip
        title = f"A frozen warm-up against a training one: {model}, {family_title(sample['data']['family'])}"
        columns = ["fraction_pct", "blocks", "overlap_pct"]
        return Table(title, header, cells, notes, data, columns).write(folder, "frozen_warmup")

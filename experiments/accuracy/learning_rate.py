"""Which learning rate for which method: held-out loss at a third, once and three times the recipe's rate.

Question behind it: a comparison under one rate for all methods, or under rates tuned for one of them, says more about the
rates than about the methods. SMT refers to DoRA's rate and prints no search; only SpIEL does. Every method is tried at the
middle fraction of the recipe, or at those asked for; the held-out part of the training data decides, never a test set. `tiny`'s
rates (`smt_bench/questions/recipes.py`) follow from this table at the largest fraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smt_bench.evidence.cells import heldout_nlls
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import family_title
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.records.store import Record
from smt_bench.report.conditions import divided
from smt_bench.report.notes import made_with
from smt_bench.report.numbers import written
from smt_bench.report.table import Table

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.questions.planner import Planner

FACTORS = (1 / 3, 1.0, 3.0)


class LearningRate(TrainingExperiment):
    """Methods x rates x seeds."""

    name = "learning-rate"
    tunes = True
    reproduces = "no table of the papers: held-out loss by method and learning rate, the ground of the recipes' rates"
    needs = "any model; commonsense (default) or math tasks"

    def method_names(self, planner: Planner) -> list[str]:
        """The five methods, or those asked for."""
        return planner.method_names(("full", "smt", "spiel", "lora", "dora"))

    def cells(self, planner: Planner) -> list[Cell]:
        """Methods x rates, at one fraction unless more are asked for.

        Raises:
            ValueError: no method trains.
        """
        return [
            replace(cell, lr=float(f"{planner.recipe.lr(cell.method) * factor:.1g}"))
            for cell in grid(planner, planner.trained(self.method_names(planner)), middle(planner))
            for factor in FACTORS
        ]

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """One row per method, fraction and rate, the best of each method marked."""
        cells: dict[tuple[str, float | None, float], list[Record]] = {}
        for record in records:
            run = record["run"]
            cells.setdefault((run["method"]["name"], run["method"]["fraction"], run["train"]["lr"]), []).append(record)
        data = []
        for (name, fraction, lr), group in sorted(
            cells.items(), key=lambda item: (item[0][0], item[0][1] or 0, item[0][2])
        ):
            values = heldout_nlls(group, "tune")
            mean, ci = mean_ci(values) if values else (None, None)
            data.append(
                {
                    "method": name,
                    "fraction_pct": None if fraction is None else 100 * fraction,
                    "lr": lr,
                    "heldout_nll": mean,
                    "ci95": ci,
                    "n_seeds": len(values),
                    "diverged": sum(r["status"] == "diverged" for r in group),
                    "failed": sum(r["status"] in ("failed", "out_of_memory") for r in group),
                    "best": 0,
                    "keys": " ".join(r["key"] for r in group),
                }
            )
        for row in data:
            rivals = [
                r["heldout_nll"]
                for r in data
                if (r["method"], r["fraction_pct"]) == (row["method"], row["fraction_pct"])
            ]
            row["best"] = int(
                row["heldout_nll"] is not None and row["heldout_nll"] == min(r for r in rivals if r is not None)
            )
        rows = [
            [
                row["method"],
                "" if row["fraction_pct"] is None else f"{row['fraction_pct']:g}",
                f"{row['lr']:g}",
                (written(row["heldout_nll"], 3, row["ci95"]) or "") + (" *" if row["best"] else ""),
                row["n_seeds"],
                f"{row['diverged']} diverged" if row["diverged"] else f"{row['failed']} failed" if row["failed"] else "",
            ]
            for row in data
        ]  # fmt: skip
        sample = records[0]["run"]
        table = Table(
            f"Held-out loss by learning rate: {model}, {family_title(sample['data']['family'])}",
            ["method", "trainable, %", "learning rate", "held-out NLL, nats/token", "seeds", "lost runs"],
            rows,
            [
                f"{sample['train']['steps']} steps of {sample['train']['batch_size']} examples; {sample['data']['heldout']} "
                "held-out training examples; no test set is looked at",
                *divided(sample),
                "± is the 95 % interval over seeds where there are several; * is the best rate of a method",
                made_with(records),
            ],
            data,
        )
        return table.write(folder, "learning_rate")

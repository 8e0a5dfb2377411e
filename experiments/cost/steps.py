"""What the measurements of training steps share: the methods, each at one fraction, and the sizes of a batch."""

from __future__ import annotations

from typing import Any

from smt_bench import methods
from smt_bench.questions.experiment import MeasuringExperiment
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.questions.planner import Planner

PAPER_STEPS = 31_954  # commonsense: 3 epochs of 170,420 examples in batches of 16


class StepsExperiment(MeasuringExperiment):
    """Measures steps of methods on random weights and tokens."""

    def method_names(self, planner: Planner) -> list[str]:
        """The five methods, or those asked for."""
        return planner.method_names(("full", "smt", "spiel", "lora", "dora"))

    def _cells(self, planner: Planner) -> list[Cell]:
        return grid(planner, self.method_names(planner), middle(planner))

    def check(self, planner: Planner) -> None:
        """Every fraction must be possible for every method."""
        for cell in self._cells(planner):
            planner.check_capacity(cell.method, cell.fraction)

    def settings(self, planner: Planner) -> dict[str, Any]:
        """What takes steps, and how large they are."""
        competing = []
        for cell in self._cells(planner):
            version, config = methods.find(cell.method).version, planner.config(cell.method, PAPER_STEPS)
            entry = {
                "name": cell.method,
                "version": version,
                "fraction": cell.fraction,
                "config": config,
                "variant": "",
            }
            if (half := planner.half(cell.method, cell.fraction, config, PAPER_STEPS)) is not None:
                entry["half"] = half
            competing.append(entry)
            if config.get("dropout"):
                # Drawing the masks is slow on CPUs: what a method costs without them is another question than what the paper ran.
                competing.append({**entry, "config": {**config, "dropout": 0.0}, "variant": "no dropout"})
        return {
            "methods": competing,
            "batch_size": 2 if planner.request.preset else planner.recipe.micro_batch_size,
            "length": planner.recipe.cutoff,
            "precision": planner.precision,
            "checkpointing": planner.recipe.gradient_checkpointing,
        }

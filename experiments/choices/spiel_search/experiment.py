"""SpIEL's appendix D: the search for learning rate, number of trained parameters and weight decay; its figure 4 and table 4.

What the paper does: a grid of four rates x four sizes for LoRA, SpIEL-AG and SpIEL-MA, of four rates for (IA)^3, whose size is
fixed; then, for the SpIEL methods at the largest size and the best rate, five strengths of decay. Every setting is one run on a
subset of Flan v2, judged by 5-shot MMLU on its development set.

Here with the model's data: settings are chosen by the loss on the held-out examples that are for choices, under seeds that are
never reported (a development set's place), so that there are best settings and no verdicts. Under the paper's recipes rates are
the printed ones, sizes the ranks 8 to 64, and decay, which is of batches of 128, is scaled by examples
(`smt_bench/questions/recipes.py`). Under other recipes the recipe's rate is the third of four as far apart as the paper's, sizes
are the recipe's, and decay is scaled such that it pulls as much over the run (rate x strength x steps).

Where the paper is ambiguous: it does not say which decay the first grid has (here none), and the text of figure 4 is its title.
Which rate is best is known only after the grid has run; decay is therefore tried at every rate, and the table reads the row of
the best one, as the paper does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smt_bench.experiments.choices.spiel_search.output import write_search
from smt_bench.methods.modules import numel, targeted
from smt_bench.methods.spiel.config import ScheduleConfig
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid
from smt_bench.questions.recipes import SPIEL_BATCH
from smt_bench.records.store import Record

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.questions.planner import Planner

METHODS = ("lora", "spiel", "spiel-ma", "peft:ia3")
RATES = {
    "lora": (3e-6, 1e-5, 3e-5, 1e-4),
    "spiel": (3e-6, 1e-5, 3e-5, 1e-4),
    "spiel-ma": (4e-4, 7e-4, 1e-3, 2e-3),
    "peft:ia3": (1e-5, 3e-5, 1e-4, 3e-4),
}
HALF_DECADES = (0.1, 0.3, 1.0, 3.0)
FACTORS = {"spiel-ma": (0.4, 0.7, 1.0, 2.0)}  # of the recipe's rate; others: half decades
RANKS = (8, 16, 32, 64)
DECAYS = {"spiel": (0.0, 1.0, 3.0, 10.0, 30.0), "spiel-ma": (0.0, 0.1, 0.3, 1.0, 3.0)}
PULL_STEPS, PULL_RATE = 782, {"spiel": 1e-4, "spiel-ma": 1e-3}  # of the paper's runs: table 4


def papers(planner: Planner) -> bool:
    """Whether the recipe is one of the papers'."""
    return planner.recipe.protocol == "llm-adapters"


def rates(planner: Planner, name: str) -> list[float]:
    """Four learning rates of a method."""
    if papers(planner):
        return list(RATES[name])
    usual = planner.recipe.lr(name)
    return [float(f"{usual * factor:.2g}") for factor in FACTORS.get(name, HALF_DECADES)]


def decays(planner: Planner, name: str) -> list[float]:
    """Five strengths of weight decay of a SpIEL method, 0 first."""
    if papers(planner):
        scale = planner.recipe.batch_size / SPIEL_BATCH
    else:
        steps = planner.request.steps or planner.recipe.steps or 1000
        scale = PULL_STEPS * PULL_RATE[name] / (steps * planner.recipe.lr(name))
    return [float(f"{scale * strength:.3g}") for strength in DECAYS[name]]


def fractions(planner: Planner) -> list[float]:
    """Trainable fractions, ascending: those asked for, the ranks' under a paper's recipe, else the recipe's."""
    if planner.request.fractions_pct or not papers(planner):
        return sorted(planner.fractions())
    shapes = targeted(planner.shapes, planner.has(ScheduleConfig().targets))
    total = sum(numel(shape) for shape in planner.shapes.values())
    return [rank * sum(sum(shape) for shape in shapes.values()) / total for rank in RANKS]


class SpielSearch(TrainingExperiment):
    """Methods x rates x sizes, and decay at the largest size."""

    name = "spiel-search"
    tunes = True
    reproduces = "SpIEL appendix D: figure 4 and table 4, the search for rate, size and weight decay"
    needs = "any model; commonsense (default) or math tasks"

    def method_names(self, planner: Planner) -> list[str]:
        """The four, or those of them that were asked for.

        Raises:
            ValueError: another one was asked for.
        """
        return planner.among(METHODS, f"SpIEL's search is over {', '.join(METHODS)}")

    def cells(self, planner: Planner) -> list[Cell]:
        """The grid of each method, then decay at its largest size."""
        sizes = fractions(planner)
        made = []
        for name in self.method_names(planner):
            none, *more = ([{"weight_decay": decay} for decay in decays(planner, name)]) if name in DECAYS else [{}]
            first = grid(planner, [name], sizes, [none])
            again = grid(planner, [name], sizes[-1:], more) if more else []
            made += [replace(cell, lr=rate) for cell in (*first, *again) for rate in rates(planner, name)]
        return made

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Table 4, the whole search, and figure 4."""
        return write_search(records, folder, model)

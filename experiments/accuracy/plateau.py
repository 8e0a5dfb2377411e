"""Table 3 and figure 9 (and table 2's rows): accuracy by method and trainable fraction.

Claim (SMT, section 4.2): LoRA, DoRA and SpIEL stop gaining, or lose, beyond about 1 % of trainable parameters, while SMT
keeps gaining up to 4.91 %, where it equals full fine-tuning.

Where the paper is ambiguous: it takes the full fine-tuning row from table 2 and prints single runs; here full
fine-tuning and the untouched model are run under the same settings, and every cell states its seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smt_bench import methods
from smt_bench.experiments.accuracy import plateau_claims
from smt_bench.methods.base import Capacity
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Run
from smt_bench.records.store import Record
from smt_bench.report.accuracy.plateau import write_plateau

NAME = "plateau"
REPRODUCES = "SMT table 3, figure 9, table 2: accuracy by method and trainable fraction"
NEEDS = "any model; commonsense (default) or math tasks"
METHODS = ("full", "smt", "spiel", "lora", "dora")


def method_names(planner: Planner) -> list[str]:
    """The paper's five methods, after the untouched model where the recipe wants it."""
    names = planner.method_names(METHODS)
    with_base = planner.recipe.with_base and "base" not in names and not planner.request.methods
    return ["base", *names] if with_base else names


def _grid(planner: Planner) -> list[tuple[str, float | None, int]]:
    grid: list[tuple[str, float | None, int]] = []
    for seed in planner.seeds():
        for name in method_names(planner):
            fractions = planner.fractions() if methods.find(name).takes_fraction else [None]
            grid += [(name, fraction, seed) for fraction in fractions]
    return grid


def check(planner: Planner) -> None:
    """Every fraction must be possible for every method, from shapes alone."""
    for name, fraction, _ in _grid(planner):
        planner.check_capacity(name, fraction)


def runs(planner: Planner) -> list[tuple[Run, Capacity]]:
    """Methods x fractions x seeds; what trains nothing runs once."""
    made: dict[str, tuple[Run, Capacity]] = {}
    for name, fraction, seed in _grid(planner):
        run, capacity = planner.run(name, fraction, seed)
        made.setdefault(run.key, (run, capacity))
    return list(made.values())


def render(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    """Table 3 with its claims, table 2, figure 9 and the paired comparisons."""
    found = plateau_claims.cells(records)
    return write_plateau(records, folder, model, "smt", found, plateau_claims.sheet(found, model))

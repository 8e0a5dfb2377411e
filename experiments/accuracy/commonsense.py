"""Table 2: the methods on the commonsense tasks, each at its best fraction, and all at an equal budget.

Claims (SMT, section 4.1): SMT at its best beats LoRA, DoRA and SpIEL at theirs, also at their budget, and equals full
fine-tuning.

The runs are those of `plateau`. Where the paper is ambiguous: it does not say by what "best" was chosen; here held-out loss
chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smt_bench.experiments.accuracy import best_of, plateau
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record

NAME = "commonsense"
REPRODUCES = "SMT table 2: commonsense tasks, every method at its best fraction and at an equal budget"
NEEDS = "any model; commonsense tasks; the runs of plateau"
method_names, runs = plateau.method_names, plateau.runs


def check(planner: Planner) -> None:
    """The plateau's checks, on commonsense tasks only.

    Raises:
        ValueError: math tasks were asked for, or an impossible fraction.
    """
    if planner.request.family != NAME:
        raise ValueError(
            f"--tasks {','.join(planner.request.tasks)}: commonsense is about commonsense tasks: see math10k"
        )
    plateau.check(planner)


def render(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    """Table 2 with its claims."""
    return best_of.write(
        records, folder, model, "table2", "Table 2: commonsense, best and equal budgets", "table 2", NAME
    )

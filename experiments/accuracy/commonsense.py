"""Table 2: the methods on the commonsense tasks, each at its best fraction, and all at an equal budget.

Claims (SMT, section 4.1): SMT at its best beats LoRA, DoRA and SpIEL at theirs, also at their budget, and equals full
fine-tuning.

The runs are those of `plateau`. Where the paper is ambiguous: it does not say by what "best" was chosen; here held-out loss
chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smt_bench.evidence.verdicts import Claim
from smt_bench.experiments.accuracy import best_of
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.records.store import Record

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.questions.planner import Planner


class Commonsense(Plateau):
    """The plateau's runs as table 2."""

    name = "commonsense"
    reproduces = "SMT table 2: commonsense tasks, every method at its best fraction and at an equal budget"
    needs = "any model; commonsense tasks; the runs of plateau"

    def check(self, planner: Planner) -> None:
        """The plateau's checks, on commonsense tasks only.

        Raises:
            ValueError: math tasks were asked for, or an impossible fraction.
        """
        if planner.request.family != "commonsense":
            raise ValueError(f"{planner.request.settling}: commonsense is about commonsense tasks: see math10k")
        super().check(planner)

    def declares(self, planned: Sequence[Record]) -> list[Claim]:
        """The claims on table 2."""
        return best_of.declared(planned, "table 2", "commonsense")

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Table 2 with its claims."""
        heading = "Table 2: commonsense, best and equal budgets"
        return best_of.write(records, folder, model, "table2", heading, "table 2", "commonsense")

"""Table 3 and figure 9 (and table 2's rows): accuracy by method and trainable fraction.

Claim (SMT, section 4.2): LoRA, DoRA and SpIEL stop gaining, or lose, beyond about 1 % of trainable parameters, while SMT
keeps gaining up to 4.91 %, where it equals full fine-tuning.

Where the paper is ambiguous: it takes the full fine-tuning row from table 2 and prints single runs; here full
fine-tuning and the untouched model are run under the same settings, and every cell states its seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from smt_bench.evidence.cells import groups
from smt_bench.evidence.verdicts import Claim
from smt_bench.experiments.accuracy import plateau_claims
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid
from smt_bench.records.store import Record
from smt_bench.report.accuracy.plateau import write_plateau

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.questions.planner import Planner


class Plateau(TrainingExperiment):
    """Methods x fractions x seeds.

    Attributes:
        competing: the paper's methods.
    """

    name = "plateau"
    reproduces = "SMT table 3, figure 9, table 2: accuracy by method and trainable fraction"
    needs = "any model; commonsense (default) or math tasks"
    competing: ClassVar[tuple[str, ...]] = ("full", "smt", "spiel", "lora", "dora")

    def method_names(self, planner: Planner) -> list[str]:
        """The paper's methods, after the untouched model where the recipe wants it."""
        names = planner.method_names(self.competing)
        with_base = planner.recipe.with_base and not planner.request.methods
        return ["base", *names] if with_base else names

    def cells(self, planner: Planner) -> list[Cell]:
        """Methods x fractions."""
        return grid(planner, self.method_names(planner))

    def declares(self, planned: Sequence[Record]) -> Sequence[Claim]:
        """The claims on table 3."""
        return plateau_claims.declared(planned)

    def comparisons(self, planned: Sequence[Record]) -> int:
        """A claim on two methods counts at every fraction that both have."""
        return plateau_claims.comparisons(planned)

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Table 3 with its claims, table 2, figure 9 and the paired comparisons."""
        found = groups(records)
        claimed = plateau_claims.cells(found)
        return write_plateau(found, folder, model, "smt", claimed, plateau_claims.sheet(claimed, model))

"""SpIEL table 1, last column: two adapters trained apart and added, against the better of them alone.

Claims (SpIEL, sections 2 and 5.1): composing raises performance over the individual adapters; SpIEL-AG gains more than LoRA
(+1.7 against +0.4 on 7B) and is ahead of it when composed (13B); PEFT modules are combined with less interference than full
fine-tuning.

What the paper leaves open, and what was decided:
- The paper composes adapters of two instruction mixtures (GPT4-Alpaca, Tülu v2) and scores HumanEval alone. Here the tasks of one
  family are cut in two, A and B; each adapter is trained on the records of its half for as many steps as one on all of them, and
  scored on all tasks. On `tiny` neither half says anything about the other's facts: without interference the sum would know what
  both know.
- "Compared to the individual adapters": the sum is compared with each of the two, so that nothing is picked. A gain, as the paper
  counts it, is over the one with the higher accuracy on all tasks, here the mean over all seeds, there a single run's score.
- What is added: base + (A - base) + (B - base), number by number, whatever the method: `models.composing`. Adapters of one seed.
- Interference: each adapter on the tasks of its own half, minus the sum on the same tasks. For full fine-tuning the sum is task
  arithmetic. The paper has no number for it, nor for what two adapters have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from smt_bench import methods
from smt_bench.evidence.claims import weigh
from smt_bench.evidence.verdicts import Claim
from smt_bench.experiments.accuracy.composition.claims import claims_about, evidence, sheet
from smt_bench.experiments.accuracy.composition.found import OWN, Found, halves
from smt_bench.experiments.accuracy.composition.tables import gains, rows_of_runs
from smt_bench.methods.base import Capacity
from smt_bench.questions.experiment import TrainingExperiment, tuned
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Run
from smt_bench.records.store import Record
from smt_bench.report.accuracy.claims import claims_table, verdict_lines

METHODS = ("full", "spiel", "spiel-ma", "lora")


class Composition(TrainingExperiment):
    """Each method four times: trained on either half of the tasks, on both, and the sum of the first two."""

    name = "composition"
    reproduces = "SpIEL table 1, last column: two adapters trained apart and added, their overlap and interference"
    needs = "any model; two or more tasks, whose training records say which is whose"
    keeps = True

    def method_names(self, planner: Planner) -> list[str]:
        """The four methods, or those asked for."""
        return planner.method_names(METHODS)

    def cells(self, planner: Planner) -> list[Cell]:
        """Methods x fractions, at one fraction unless more are asked for.

        Raises:
            ValueError: a method whose training cannot be added to weights, or none that trains.
        """
        cells = grid(planner, planner.trained(self.method_names(planner)), middle(planner))
        for cell in cells:
            config = planner.config(cell.method, 1000)
            if not methods.build(cell.method, config, cell.fraction, 0, 1000).merges:
                raise ValueError(
                    f"--methods {cell.method}: it cannot be folded into the weights, nor added: leave it out"
                )
        return cells

    def runs(self, planner: Planner) -> list[tuple[Run, Capacity]]:
        """Seeds outermost, sums after their parts."""
        cells, parts = self.cells(planner), halves(list(planner.data.tests) or _asked(planner))
        made: dict[str, tuple[Run, Capacity]] = {}
        for seed in planner.seeds():
            for cell in [*cells, *tuned(cells, planner)]:
                a, b, both = (_run(planner, replace(cell, only=only), seed) for only in (*parts, ()))
                run, capacity = both
                summed = replace(run, parts=(a[0].key, b[0].key))
                made |= {question.key: (question, size) for question, size in (a, b, both, (summed, capacity))}
        return list(made.values())

    def declares(self, planned: Sequence[Record]) -> Sequence[Claim]:
        """The paper's claims about the methods that are to run."""
        return [one.claim for one in claims_about({r["run"]["method"]["name"] for r in planned})]

    def comparisons(self, planned: Sequence[Record]) -> int:
        """Every claim at every fraction."""
        fractions = {r["run"]["method"]["fraction"] for r in planned} - {None}
        return len(self.declares(planned)) * max(len(fractions), 1)

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """What was gained and lost by adding, the claims, and every row's accuracy on either half."""
        found = Found.of(records)
        judged = weigh(evidence(found))
        files = gains(found, verdict_lines(judged, "composition"), model).write(folder, "composition")
        if judged:
            cells = [group for (_, what, _), group in found.cells.items() if what != OWN]
            files += claims_table(cells, model, sheet(), judged).write(folder, "composition_claims")
        return files + rows_of_runs(found, model).write(folder, "composition_rows")


def _asked(planner: Planner) -> list[str]:
    """The tasks of a plan without data."""
    return list(planner.request.tasks) or [task.name for task in planner.family.tasks]


def _run(planner: Planner, cell: Cell, seed: int) -> tuple[Run, Capacity]:
    return planner.run(
        cell.method, cell.fraction, seed, cell.lr, cell.probes, cell.recipe, cell.tuning, cell.only, **cell.changes
    )

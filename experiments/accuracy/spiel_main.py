"""SpIEL's table 1: methods x instruction mixtures x benchmarks.

Claims (SpIEL, section 5.1): SpIEL-AG beats LoRA and (IA)3 on each mixture; SpIEL-MA performs a little worse than SpIEL-AG;
SpIEL-AG generally matches full fine-tuning, but for GSM and HumanEval after Tulu v2, so that this is not asked of that mixture.
On one mixture, all of its benchmarks together.

Where the paper is ambiguous: it prints single runs, and does not say whether questions were asked in the chat template; its
evaluation scripts (github.com/ducdauge/sft-llm) have both ways. Here all rows are asked in it, the untouched model too. Full
fine-tuning after Tulu v2 is another paper's there, with longer examples; here it is trained like the others. The last columns,
composed adapters, are another experiment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smt_bench.data import families
from smt_bench.data.family import Mixture
from smt_bench.data.tasks import find_task
from smt_bench.evidence.cells import groups
from smt_bench.evidence.claims import Sheet
from smt_bench.evidence.published import published
from smt_bench.evidence.verdicts import Claim
from smt_bench.evidence.words import title
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.records.store import Record
from smt_bench.report.accuracy.mixtures import Part, draw, write_parts

if TYPE_CHECKING:  # torch comes with it
    from smt_bench.questions.planner import Planner

METHODS = ("full", "peft:ia3", "lora", "spiel", "spiel-ma")
THEIRS = {
    "base": "original",
    "full": "full",
    "peft:ia3": "ia3",
    "lora": "lora",
    "spiel": "spiel-ag",
    "spiel-ma": "spiel-ma",
}
NO_CEILING = ("tulu_v2",)


def mixture_of(record: Record) -> str:
    """The mixture of a record."""
    return str(record["run"]["data"]["train"]).rpartition(":")[2]


class SpielMain(TrainingExperiment):
    """Methods x mixtures, at one fraction unless more are asked for."""

    name = "spiel-main"
    reproduces = "SpIEL table 1: methods by instruction mixture and benchmark"
    needs = "any model; instruction mixtures and benchmarks (embedded for tiny); --allow-code for the code benchmark"
    families = ("instructions",)

    def method_names(self, planner: Planner) -> list[str]:
        """The paper's methods after the untouched model, or those asked for."""
        names = planner.method_names(METHODS)
        return ["base", *names] if planner.recipe.with_base and not planner.request.methods else names

    def check(self, planner: Planner) -> None:
        """Every cell must be possible.

        Raises:
            ValueError: tasks of another family were asked for, or an impossible fraction.
        """
        if not planner.chosen.names:
            raise ValueError(
                f"--tasks {','.join(planner.request.tasks)}: spiel-main trains on instruction mixtures: choose from "
                f"{', '.join(task.name for task in families.find(self.families[0]).all_tasks)}"
            )
        super().check(planner)

    def cells(self, planner: Planner) -> list[Cell]:
        """Mixtures x methods, mixtures outermost."""
        cells = grid(planner, self.method_names(planner), middle(planner))
        return [replace(cell, recipe={"mixture": name}) for name in planner.chosen.names for cell in cells]

    def declares(self, planned: Sequence[Record]) -> list[Claim]:
        """The claims on table 1, mixture by mixture."""
        return [claim for part in self._parts(planned, "") for claim in part.sheet.claims]

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Table 1 with its claims, and a figure of it."""
        parts = self._parts(records, model)
        return [*write_parts(parts, folder, model, "table1", "SpIEL table 1"), *draw(parts, folder, "table1")]

    def _parts(self, records: Sequence[Record], model: str) -> list[Part]:
        found = families.find(records[0]["run"]["data"]["family"])
        there = {mixture_of(r) for r in records}
        return [
            self._part(one, [r for r in records if mixture_of(r) == one.name], model)
            for embedded in (True, False)
            for one in found.offered(embedded)
            if one.name in there
        ]

    def _part(self, mixture: Mixture, records: Sequence[Record], model: str) -> Part:
        cells = groups(records)
        rows = {g.method for g in cells}

        def printed(method: str, task: str) -> float | None:
            return _printed(model, THEIRS.get(method), mixture, task)

        def mean(label: str, pct: float | None) -> float | None:
            method = next(g.method for g in cells if title(g.method) == label)
            values = [printed(method, task) for task in mixture.tasks]
            whole = [v for v in values if v is not None]
            return sum(whole) / len(whole) if whole and len(whole) == len(values) else None

        after = f"after {mixture.title} (section 5.1)"
        statements: list[tuple[str, str, dict[str, Any]]] = [
            (f"SpIEL-AG beats LoRA {after}", "lora", {}),
            (f"SpIEL-AG beats (IA)³ {after}", "peft:ia3", {}),
            (f"SpIEL-MA is a little worse than SpIEL-AG {after}", "spiel-ma", {}),
        ]
        if mixture.name not in NO_CEILING:
            statements.append((f"SpIEL-AG matches full fine-tuning {after}", "full", {"equal": True}))
        claims = [
            Claim(text, title("spiel"), title(rival), **how)
            for text, rival, how in statements
            if {"spiel", rival} <= rows
        ]
        sheet = Sheet(
            "table1", "SpIEL table 1", lambda record: None, (), title("lora"), tuple(claims), mean,
            f"SpIEL table 1, {model}" if _rows(model) else "", printed_on=model, printed_pct=None,
        )  # fmt: skip
        return Part(mixture, cells, sheet, printed)


def _rows(model: str) -> list[dict[str, Any]]:
    records: list[dict[Any, Any]] = published("spiel_table1_main").to_dict("records")
    return [row for row in records if row["model"] == model]


def _printed(model: str, method: str | None, mixture: Mixture, task: str) -> float | None:
    """The printed number (%) of one cell; None where the paper has none."""
    column = f"{mixture.printed}_{find_task(task).published_column}"
    values = [row[column] for row in _rows(model) if row["method"] == method and column in row]
    return float(values[0]) if values and values[0] == values[0] else None

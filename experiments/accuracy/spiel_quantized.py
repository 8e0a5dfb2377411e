"""SpIEL's table 2: what a base of 4 bits costs each method, and SMT over one, which no paper has.

Claims (SpIEL, section 5.1, "Quantization"): 4-bit quantization results in only a modest reduction in performance across PEFT
methods; SpIEL-AG is superior again to LoRA, by a higher margin.

Every method is trained twice, over whole weights and over NF4 with double quantization (`methods/nf4.py`), all else equal: same
rates, steps, seeds and data. Where the paper is ambiguous: "modest" has no number; here a reduction is modest where the quantized
row is within the margin of its whole one. Rates are the recipe's, found over whole weights. In the paper what trains over a
quantized base is bfloat16; here it is float32 in both rows, so that they differ in the base alone. SMT's warm-up only looks in
both rows: over a base of 4 bits it cannot train. The printed numbers are of instruction mixtures: the mean of MMLU and TyDiQA
after Flan v2 stands beside ours; all of them, whole and quantized, are in the second table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smt_bench import methods
from smt_bench.evidence.claims import Sheet
from smt_bench.evidence.published import published
from smt_bench.evidence.verdicts import Claim
from smt_bench.evidence.words import rank, title
from smt_bench.methods.nf4 import NAME
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import ALL
from smt_bench.records.store import Record
from smt_bench.report.accuracy.variants import write_sheet
from smt_bench.report.table import Table

METHODS = ("base", "lora", "spiel", "spiel-ma", "smt")
# Names of the paper's rows: of table 1, and of table 2 where the base has 4 bits.
PAPERS = {
    "base": ("original", "original-4bit"), "lora": ("lora", "qlora"), "spiel": ("spiel-ag", "qspiel-ag"),
    "spiel-ma": ("spiel-ma", "qspiel-ma"),
}  # fmt: skip
MODELS = ("llama2-7b", "llama2-13b")
FAMILY = "instructions"  # of the paper's data
SCORES = ("flanv2_mmlu", "flanv2_tydiqa", "gpt4alpaca_humaneval")


def row_name(method: str, small: bool) -> str:
    """A row's name, e.g. "qLoRA" for LoRA over a base of 4 bits."""
    return f"{'q' if small else ''}{title(method)}"


def label(record: Record) -> str:
    """The row of a record."""
    run = record["run"]
    return row_name(run["method"]["name"], bool(run["train"].get("base")))


class SpielQuantized(TrainingExperiment):
    """Methods over whole weights and over 4 bits, at one fraction unless more are asked for."""

    name = "spiel-quantized"
    reproduces = "SpIEL table 2: what a base of 4 bits costs each method (qLoRA, qSpIEL, and qSMT)"
    needs = "any model; commonsense (default) or math tasks; the extra nf4"

    def method_names(self, planner: Planner) -> list[str]:
        """The paper's methods and SMT, or those asked for that can do with a base of 4 bits.

        Raises:
            ValueError: the base was chosen, which is what is compared.
        """
        if planner.request.base and not planner.shared:
            raise ValueError(f"--base {planner.request.base}: {self.name} compares it with whole weights: leave it out")
        found = planner.method_names(METHODS)
        if ALL not in planner.request.methods:
            return found
        return [name for name in found if name in planner.request.methods or planner.stands(name, NAME)]

    def cells(self, planner: Planner) -> list[Cell]:
        """Whole and quantized, under settings that both can have."""
        return [
            replace(cell, recipe={"base": base})
            for name in self.method_names(planner)
            for cell in grid(planner, [name], middle(planner), [frozen(planner, name)])
            for base in ("", NAME)
        ]

    def check(self, planner: Planner) -> None:
        """Every cell must be possible, and every method do with a base of 4 bits.

        Raises:
            ValueError: one is not.
        """
        super().check(planner)
        for cell in self.cells(planner):
            planner.check_capacity(cell.method, cell.fraction, NAME, **cell.changes)

    def declares(self, planned: Sequence[Record]) -> Sequence[Claim]:
        """What is said of each method, and of SpIEL against LoRA."""
        return sheet(planned).claims

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Table 2 with its claims, and the paper's own."""
        return [*write_sheet(records, folder, model, sheet(records)), *printed_table().write(folder, "table2_printed")]


def frozen(planner: Planner, name: str) -> Mapping[str, Any]:
    """The settings that a method needs over 4 bits, for both of its rows; what was asked for stands."""
    asked = {setting for method, setting, _ in planner.request.settings if method == name}
    return {setting: value for setting, value in methods.find(name).over_nf4.items() if setting not in asked}


def sheet(records: Sequence[Record]) -> Sheet:
    """Table 2, of the methods that there are records of."""
    names = sorted({r["run"]["method"]["name"] for r in records}, key=rank)
    order = tuple(row_name(name, small) for name in names for small in (False, True))
    there = {label(r) for r in records}
    claims = [
        Claim(
            f"{title(name)}: 4 bits cost little (section 5.1)"
            if name in PAPERS
            else f"{title(name)}: 4 bits cost little",
            row_name(name, True),
            row_name(name, False),
            equal=True,
            control=name not in PAPERS or name == "base",  # of the untouched model the paper says nothing
        )
        for name in names
    ]
    claims.append(Claim("qSpIEL-AG beats qLoRA (section 5.1)", row_name("spiel", True), row_name("lora", True)))
    model = records[0]["run"]["model"]["name"]
    on = model if model in MODELS else MODELS[0]
    return Sheet(
        "table2",
        "SpIEL table 2: over a base of 4 bits",
        label,
        order,
        next((row_name(n, False) for n in ("lora", *names) if row_name(n, False) in there and n in names), order[0]),
        tuple(c for c in claims if {c.ahead, c.behind} <= there),
        lambda row, _: printed(on).get(row),
        f"SpIEL tables 1 and 2, {on} on Flan v2: mean of MMLU and TyDiQA",
        ("A row named q... has a base of 4 bits; the row before it is the same training over whole weights.",),
        "method",
        printed_on=on,
        printed_pct=None,
        printed_family=FAMILY,
    )


def printed(model: str) -> dict[str, float]:
    """The paper's mean of MMLU and TyDiQA after Flan v2 (%), by row."""
    return {
        row_name(name, small): sum(rows[theirs[small]][score] for score in SCORES[:2]) / 2
        for rows in (_rows(model),)
        for name, theirs in PAPERS.items()
        for small in (False, True)
    }


def _rows(model: str) -> dict[str, dict[str, float]]:
    """The rows of tables 1 and 2 by method."""
    return {
        str(row["method"]): {score: float(row[score]) for score in SCORES}
        for table in ("spiel_table1_main", "spiel_table2_quantized")
        for row in published(table).to_dict("records")
        if row["model"] == model
    }


def printed_table() -> Table:
    """Tables 1 and 2 side by side: what 4 bits cost in the paper, in points."""
    data = []
    for model in MODELS:
        rows = _rows(model)
        for name, (whole, small) in PAPERS.items():
            line: dict[str, Any] = {"model": model, "row": row_name(name, True)}
            for score in SCORES:
                line |= {
                    score: rows[small][score],
                    f"{score}_change": round(rows[small][score] - rows[whole][score], 1),
                }
            data.append({**line, "source": "published", "keys": ""})
    columns = ("MMLU", "TyDiQA", "HumanEval")
    shown = [
        [line["model"], line["row"], *(f"{line[s]:.1f} ({line[f'{s}_change']:+.1f})" for s in SCORES)] for line in data
    ]
    notes = [
        "In brackets: minus the same method over whole weights (table 1), points; single runs. MMLU and TyDiQA after Flan v2, "
        "HumanEval after GPT4-Alpaca.",
    ]
    return Table("SpIEL tables 1 and 2 as printed: what 4 bits cost", ["model", "row", *columns], shown, notes, data)

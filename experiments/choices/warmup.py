"""Tables 10 and 11: how many warm-up steps; and what a warm-up does.

Claim (SMT, appendix H): "performance variance due to the number of warm-up iterations is minimal".

A longer warm-up does two things at once: it chooses blocks from more gradients, and it trains all parameters for longer. The
paper varies both together. Controls here: a frozen warm-up (gradients are watched, nothing trains) and random blocks after either
warm-up. Training warm-up minus frozen warm-up is what dense training does, gradient minus random selection what choosing does.

Where the paper is ambiguous: table 10 is at "3.5 %" (no other table has that fraction), table 11 at 0.86 %. The paper's steps are
used with its recipe (of about 32,000 steps); on small models multiples of the recipe's warm-up, which span the same factor of
five and more. The paper's text gives 25 steps for math, its appendix chooses 30.
"""

from __future__ import annotations

from collections.abc import Sequence

from smt_bench.evidence.claims import Sheet
from smt_bench.evidence.published import PAPER_PCT, published
from smt_bench.evidence.verdicts import Claim
from smt_bench.experiments.choices.ablation import Ablation, budgets, config
from smt_bench.methods.smt.selection import BY_INPUT
from smt_bench.questions.grid import Cell, grid
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record

TABLES = {"commonsense": "smt_table10_warmup_commonsense", "math": "smt_table11_warmup_math10k"}
NUMBERS = {"commonsense": 10, "math": 11}
PCT = {"commonsense": 3.5, "math": 0.86}
MULTIPLES = (0.4, 1, 2, 4)


def _steps(planner: Planner, usual: int) -> list[int]:
    printed = TABLES.get(planner.request.family)
    asked = planner.request.steps is not None or planner.request.smoke
    if planner.recipe.protocol == "llm-adapters" and printed and not asked:
        return [int(n) for n in published(printed)["warmup_iterations"]]
    total = planner.request.steps or planner.recipe.steps or 1000
    return sorted({max(1, min(round(m * usual), total // 2)) for m in MULTIPLES})


def row_name(steps: int, trains: bool = True, random: bool = False) -> str:
    """A row's name, e.g. "frozen for 5, random blocks"; the paper's own variant is "trains for 5"."""
    return f"{'trains' if trains else 'frozen'} for {steps}{', random blocks' if random else ''}"


def label(record: Record) -> str | None:
    """The row of a record."""
    c = config(record)
    if c["scope"] == "per_layer" or c["metric"] in BY_INPUT:
        return None
    return row_name(c["warmup_steps"], c["warmup_trains"], c["scope"] == "random")


def _printed(table: str) -> dict[str, float]:
    rows = published(table)
    return {row_name(n): float(avg) for n, avg in zip(rows["warmup_iterations"], rows["avg"])}


class Warmup(Ablation):
    """Warm-ups of several lengths, trained and frozen, with chosen and with random blocks."""

    name = "warmup"
    reproduces = "SMT tables 10 and 11: number of warm-up steps; with a frozen warm-up and random blocks as controls"
    families = ("commonsense", "math")

    def cells(self, planner: Planner) -> list[Cell]:
        """All lengths, then the controls with random blocks."""
        usual = planner.config("smt", planner.request.steps or planner.recipe.steps or 1000)["warmup_steps"]
        steps = _steps(planner, usual)
        control = sorted({min(steps, key=lambda n: abs(n - usual)), steps[-1]})
        variants: list[dict[str, object]] = []
        for random, counts in (({}, steps), ({"scope": "random"}, control)):
            for n in counts:
                variants += [{"warmup_steps": n, **random}, {"warmup_steps": n, **random, "warmup_trains": False}]
        return grid(planner, ["smt"], budgets(planner, [{}], PCT.get(planner.request.family, PAPER_PCT)), variants)

    def sheets(self, records: Sequence[Record]) -> tuple[Sheet, ...]:
        """Table 10, or 11 for math."""
        family = records[0]["run"]["data"]["family"]
        counts = sorted({config(r)["warmup_steps"] for r in records})
        names = {label(r) for r in records}
        order = [row_name(n, trains, random) for random in (False, True) for trains in (True, False) for n in counts]
        few, many = row_name(counts[0]), row_name(counts[-1])
        claims = [Claim("the number of warm-up steps hardly matters (appendix H)", many, few, equal=True)]
        for n in counts:
            frozen = row_name(n, False)
            claims += [
                Claim("dense training in the warm-up helps", row_name(n), frozen, control=True),
                Claim("chosen blocks beat random ones", row_name(n), row_name(n, True, True), control=True),
                Claim(
                    "chosen blocks beat random ones where nothing was trained before",
                    frozen,
                    row_name(n, False, True),
                    control=True,
                ),
            ]
        about = (
            family if family in TABLES else self.families[0]
        )  # other families stand beside the first table's numbers
        printed, number = _printed(TABLES[about]), NUMBERS[about]
        claims = [c for c in claims if {c.ahead, c.behind} <= names and c.ahead != c.behind]
        made = Sheet(
            f"table{number}", f"Table {number}: warm-up steps", label, tuple(order), few,
            tuple(claims),
            lambda row, _: printed.get(row), f"SMT table {number}, LLaMA-7B, {PCT[about]:g} %",
            (
                "Frozen: gradients are watched but nothing trains before blocks are chosen; warm-up steps count towards the "
                "run's.",
            ),
            "warm-up steps", printed_pct=PCT[about],
        )  # fmt: skip
        return (made,)

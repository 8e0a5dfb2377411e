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
from smt_bench.evidence.published import published
from smt_bench.evidence.verdicts import Claim
from smt_bench.experiments.choices.ablation import ANY, PAPER_PCT, Ablation, Cell, budgets, config
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record

NAME = "warmup"
REPRODUCES = "SMT tables 10 and 11: number of warm-up steps; with a frozen warm-up and random blocks as controls"
NEEDS = ANY
FAMILIES = ("commonsense", "math")
TABLES = {"commonsense": "smt_table10_warmup_commonsense", "math": "smt_table11_warmup_math10k"}
NUMBERS = {"commonsense": 10, "math": 11}
PCT = {"commonsense": 3.5, "math": 0.86}
MULTIPLES = (0.4, 1, 2, 4)


def _steps(planner: Planner, usual: int) -> list[int]:
    printed = TABLES.get(planner.request.family)
    asked = planner.request.steps is not None or planner.request.preset is not None
    if planner.recipe.protocol == "llm-adapters" and printed and not asked:
        return [int(n) for n in published(printed)["warmup_iterations"]]
    total = planner.request.steps or planner.recipe.steps or 1000
    return sorted({max(1, min(round(m * usual), total // 2)) for m in MULTIPLES})


def _grid(planner: Planner) -> list[Cell]:
    usual = planner.config("smt", planner.request.steps or planner.recipe.steps or 1000)["warmup_steps"]
    steps = _steps(planner, usual)
    control = sorted({min(steps, key=lambda n: abs(n - usual)), steps[-1]})
    made = []
    for fraction in budgets(planner, [{}], PCT.get(planner.request.family, PAPER_PCT)):
        for n in steps:
            made += [Cell(fraction, {"warmup_steps": n}), Cell(fraction, {"warmup_steps": n, "warmup_trains": False})]
        for n in control:
            random = {"warmup_steps": n, "scope": "random"}
            made += [Cell(fraction, random), Cell(fraction, random | {"warmup_trains": False})]
    return made


def name(steps: int, trains: bool = True, random: bool = False) -> str:
    """A row's name, e.g. "frozen for 5, random blocks"; the paper's own variant is "trains for 5"."""
    return f"{'trains' if trains else 'frozen'} for {steps}{', random blocks' if random else ''}"


def label(record: Record) -> str | None:
    """The row of a record."""
    c = config(record)
    if c["scope"] == "per_layer" or c["metric"] == "activation":
        return None
    return name(c["warmup_steps"], c["warmup_trains"], c["scope"] == "random")


def _printed(table: str) -> dict[str, float]:
    rows = published(table)
    return {name(n): float(avg) for n, avg in zip(rows["warmup_iterations"], rows["avg"])}


def _sheets(records: Sequence[Record]) -> tuple[Sheet, ...]:
    family = records[0]["run"]["data"]["family"]
    counts = sorted({config(r)["warmup_steps"] for r in records})
    names = {label(r) for r in records}
    order = [name(n, trains, random) for random in (False, True) for trains in (True, False) for n in counts]
    few, many = name(counts[0]), name(counts[-1])
    claims = [Claim("the number of warm-up steps hardly matters (appendix H)", many, few, equal=True)]
    for n in counts:
        frozen = name(n, False)
        claims += [
            Claim("dense training in the warm-up helps", name(n), frozen, control=True),
            Claim("chosen blocks beat random ones", name(n), name(n, True, True), control=True),
            Claim(
                "chosen blocks beat random ones where nothing was trained before",
                frozen,
                name(n, False, True),
                control=True,
            ),
        ]
    about = family if family in TABLES else FAMILIES[0]  # other families stand beside the first table's numbers
    printed, number = _printed(TABLES[about]), NUMBERS[about]
    claims = [c for c in claims if {c.ahead, c.behind} <= names and c.ahead != c.behind]
    made = Sheet(
        f"table{number}", f"Table {number}: warm-up steps", label, tuple(order), few,
        tuple(claims),
        lambda row, _: printed.get(row), f"SMT table {number}, LLaMA-7B, {PCT[about]:g} %",
        ("Frozen: gradients are watched but nothing trains before blocks are chosen; warm-up steps count towards the run's.",),
        "warm-up steps", printed_pct=PCT[about],
    )  # fmt: skip
    return (made,)


ABLATION = Ablation(_grid, _sheets)

method_names, check, runs, render = ABLATION.method_names, ABLATION.check, ABLATION.runs, ABLATION.render

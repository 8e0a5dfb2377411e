"""SpIEL's table 5: how often indices move, and how many then.

Claims (SpIEL, appendix D): there is no clear preference for the linear or the cosine schedule; moving indices every 10 steps
might be better than every 20, as in the paper's main experiments.

Where the paper is ambiguous: it prints two benchmarks of an instruction mixture, MMLU and TyDiQA, and single runs; their mean
stands beside ours. Its 10, 20, 40 and 80 steps are a half, once, twice and four times the recipe's interval here, as an interval
means as many examples (`smt_bench/questions/recipes.py`). Gradients are estimated over the recipe's gamma steps, or the interval
where that is shorter. Equation 11 (cosine) has no full replacement at the first update, equation 8 (linear) has.
"""

from __future__ import annotations

from collections.abc import Sequence

from smt_bench.evidence.claims import Sheet
from smt_bench.evidence.published import published
from smt_bench.evidence.verdicts import Claim
from smt_bench.experiments.choices.ablation import Ablation, config
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record

RATES = ("linear", "cosine")
MULTIPLES = (0.5, 1.0, 2.0, 4.0)
PRINTED = (10, 20, 40, 80)  # steps, in the order of MULTIPLES


def row_name(rates: str, every: int) -> str:
    """A row's name, e.g. "linear, every 20"."""
    return f"{rates}, every {every}"


def label(record: Record) -> str | None:
    """The row of a record."""
    c = config(record)
    return row_name(c.get("rates", RATES[0]), c["update_every"])


class SpielSchedule(Ablation):
    """SpIEL-AG under four intervals and two schedules."""

    name = "spiel-schedule"
    reproduces = "SpIEL table 5: how often indices move, on a linear or a cosine schedule"
    method = "spiel"

    def cells(self, planner: Planner) -> list[Cell]:
        """Schedules x intervals, at one fraction unless more are asked for."""
        usual = planner.config(self.method, planner.request.steps or planner.recipe.steps or 1000)
        intervals = sorted({max(1, round(multiple * usual["update_every"])) for multiple in MULTIPLES})
        variants = [
            {"rates": rates, "update_every": every, "estimate_steps": min(usual["estimate_steps"], every)}
            for rates in RATES
            for every in intervals
        ]
        return grid(planner, [self.method], middle(planner), variants)

    def sheets(self, records: Sequence[Record]) -> tuple[Sheet, ...]:
        """Table 5."""
        intervals = sorted({config(record)["update_every"] for record in records})
        order = [row_name(rates, every) for rates in RATES for every in intervals]
        there = {label(record) for record in records}
        claims = [
            Claim(
                "no clear preference for a linear or a cosine schedule (appendix D)",
                row_name("cosine", every),
                row_name("linear", every),
                equal=True,
            )
            for every in intervals
        ]
        if len(intervals) == len(PRINTED):
            often, usual = intervals[:2]
            claims += [
                Claim(
                    "moving indices twice as often might be better (appendix D)", row_name(r, often), row_name(r, usual)
                )
                for r in RATES
            ]
        printed = _printed(intervals)
        made = Sheet(
            "table5",
            "SpIEL table 5: how often indices move",
            label,
            tuple(order),
            row_name(RATES[0], intervals[min(1, len(intervals) - 1)]),
            tuple(c for c in claims if {c.ahead, c.behind} <= there),
            lambda row, _: printed.get(row),
            "SpIEL table 5, LLaMA2-7B on Flan v2: mean of MMLU and TyDiQA",
            (
                "Intervals in steps. The paper's 10, 20, 40 and 80 steps of 128 examples are a half, once, twice and four times "
                "the recipe's.",
            ),
            "schedule",
            printed_on="llama2-7b",
            printed_pct=None,
        )
        return (made,)


def _printed(intervals: Sequence[int]) -> dict[str, float]:
    """The paper's mean (%) by row; nothing where the intervals are not its four."""
    if len(intervals) != len(PRINTED):
        return {}
    ours = dict(zip(PRINTED, intervals))
    return {
        row_name(str(row["schedule"]), ours[int(row["steps"])]): (float(row["mmlu"]) + float(row["tydiqa"])) / 2
        for row in published("spiel_table5_schedule").to_dict("records")
    }

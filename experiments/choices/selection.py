"""Tables 8 and 9: what chooses the blocks (gradients or activations), and from where (all matrices, each matrix, at random).

Claims (SMT, appendix B.2 and B.3): gradients beat activations by 25 points and more; the best blocks over all matrices beat the
best of every matrix, and both beat random blocks.

Activation selection takes single channels, i.e. columns of W, by the norm of their inputs, as appendix B.2 says. Runs from
before this suite did so took whole columns of blocks; they stand in a row of their own, a control.

Where the paper is ambiguous: table 9's text draws random blocks over all matrices, its caption "in every layer"; it is over all
here. Q, K and V read one input, so that its best channels are chosen in all three. Table 8's activation rows are "the best
results" after a search of which nothing is said; here both have the recipe's rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smt_bench.evidence.claims import Sheet
from smt_bench.evidence.published import PAPER_PCT, average
from smt_bench.evidence.verdicts import Claim
from smt_bench.experiments.choices.ablation import Ablation, budgets, config
from smt_bench.methods.smt.selection import ACTIVATION, BY_INPUT, CHANNELS
from smt_bench.questions.grid import Cell, grid
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record

LARGE_PCT = 4.91  # table 8's other budget
ROWS = {CHANNELS: "activation", ACTIVATION: "activation, columns of blocks"}
SCOPES = {"global": "global", "per_layer": "per layer", "random": "random"}


def by_metric(record: Record) -> str | None:
    """Table 8's rows."""
    if config(record)["scope"] != "global":
        return None
    return ROWS.get(config(record)["metric"], "gradient")


def by_scope(records: Sequence[Record]) -> Callable[[Record], str | None]:
    """Table 9's rows, at the fractions at which scopes were compared."""
    compared = {r["run"]["method"]["fraction"] for r in records if config(r)["scope"] != "global"}

    def label(record: Record) -> str | None:
        if config(record)["metric"] in BY_INPUT or record["run"]["method"]["fraction"] not in compared:
            return None
        return SCOPES[config(record)["scope"]]

    return label


def table8(records: Sequence[Record]) -> Callable[[str, float | None], float | None]:
    """Table 8's printed averages; elsewhere than on the paper's model its two budgets stand beside our smallest and largest."""
    shares = sorted({100 * r["run"]["method"]["fraction"] for r in records if by_metric(r) is not None})
    beside: dict[float, float] = {}
    if len(shares) > 1 and records[0]["run"]["model"]["name"] != "llama-7b":
        beside = {round(shares[0], 6): PAPER_PCT, round(shares[-1], 6): LARGE_PCT}

    def printed(name: str, pct: float | None) -> float | None:
        assert pct is not None, "SMT has a fraction"
        return average("smt_table8_gw_vs_aw", selection=name, params_pct=beside.get(round(pct, 6), pct))

    return printed


class Selection(Ablation):
    """What chooses the blocks, and from where."""

    name = "selection"
    reproduces = "SMT tables 8 and 9: gradient against activation selection; global, per-layer, random"

    def cells(self, planner: Planner) -> list[Cell]:
        """Table 8's, then those that table 9 has besides."""
        small = budgets(planner, [{}])
        # Table 8 is at the paper's smallest and largest budgets; table 9 at the small one.
        large = [] if planner.request.fractions_pct else [max(planner.fractions())]
        compared = grid(planner, ["smt"], [*small, *large], [{}, {"metric": CHANNELS}])
        return compared + grid(planner, ["smt"], small, [{"scope": scope} for scope in ("per_layer", "random")])

    def sheets(self, records: Sequence[Record]) -> tuple[Sheet, ...]:
        """Tables 8 and 9."""
        return (
            Sheet(
                "table8",
                "Table 8: gradient against activation selection",
                by_metric,
                ("gradient", *ROWS.values()),
                "gradient",
                (
                    Claim("gradient selection beats activation selection (table 8)", "gradient", ROWS[CHANNELS]),
                    Claim("gradient beats whole columns of blocks", "gradient", ROWS[ACTIVATION], control=True),
                ),
                table8(records),
                "SMT table 8, LLaMA-7B, 0.84 and 4.91 % (elsewhere beside the smallest and the largest fraction)",
                first="selection by",
                printed_pct=None,
            ),
            Sheet(
                "table9",
                "Table 9: from where blocks are chosen",
                by_scope(records),
                tuple(SCOPES.values()),
                "global",
                (
                    Claim("the best blocks of all matrices beat the best of each (table 9)", "global", "per layer"),
                    Claim("the best blocks of all matrices beat random ones (table 9)", "global", "random"),
                    Claim("the best blocks of each matrix beat random ones (table 9)", "per layer", "random"),
                ),
                lambda name, _: average("smt_table9_scope", scope=name.replace(" ", "_")),
                "SMT table 9, LLaMA-7B, 0.84 %",
                ("Random blocks follow the same dense warm-up; experiment warmup separates what that adds.",),
                first="scope",
            ),
        )

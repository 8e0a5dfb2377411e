"""The benchmark of the statistics as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.evidence.benchmark import EFFECT, family_draws
from smt_bench.report.table import Cell, Table


def statistics_tables(
    rows: Sequence[Mapping[str, Any]], families: Sequence[Mapping[str, Any]], draws: int
) -> list[Table]:
    """Coverage by design, and the error rates of whole tables."""
    header = [
        "quantity",
        "items per source",
        "seeds",
        "seed sd",
        "coverage, %",
        f"coverage at {EFFECT:g}, %",
        "half-width",
    ]
    header += ["wrong difference, %", "wrong equality, %", f"power at {EFFECT:g}, %", "within bounds"]
    shown: list[list[Cell]] = [
        [r["quantity"], r["items per source"], r["seeds"], f"{r['seed_sd']:g}"]
        + [_pct(r["coverage"]), _pct(r["coverage_at_effect"]), f"{r['half_width']:.2f}"]
        + [_pct(r["wrong_difference"]), _pct(r["wrong_equality"]), _pct(r["power"]), "yes" if r["ok"] else "no"]
        for r in rows
    ]
    lines = [
        f"{draws:,} draws a row of two cells whose truth is known; bounds: coverage of the 95 % interval 93 to 97 %, "
        "wrong verdicts at most 5 %, up to three standard errors of the draws.",
        "Accuracy in points: 5 tasks of 100 items; NLL in hundredths of a nat per token: 200 held-out responses of 4 "
        "to 12 tokens. Seed sd: over seeds, of a run's true value, in these units. Items differ by cell and by run besides.",
        "Wrong difference: named ahead or behind where the truth is 0. Wrong equality: named within the margin of 1 "
        f"where the truth is 1. Power: named ahead where the truth is {EFFECT:g}.",
    ]
    first = Table("Do the intervals cover, are the verdicts right? Simulated", header, shown, lines, list(rows))
    about = [
        f"{family_draws(draws):,} draws a row; two items per source, seeds of 2 points, 5 seeds unless said otherwise."
    ]
    second = Table(
        "Whole tables, slopes and printed runs: simulated",
        ["what", "bound", "share, %", "within bounds"],
        [[f["what"], f["bound"], _pct(f["share"]), "yes" if f["ok"] else "no"] for f in families],
        about,
        list(families),
    )
    return [first, second]


def _pct(share: float) -> str:
    return f"{100 * share:.1f}"

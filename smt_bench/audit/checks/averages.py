"""Printed averages and speed-ups against the numbers they are made of."""

from __future__ import annotations

from collections.abc import Sequence

from smt_bench.audit.finding import Finding, Interval, against, mean
from smt_bench.audit.printed import Row, label, number, tasks_of, title


def row_averages(table: str, rows: Sequence[Row]) -> list[Finding]:
    """Every printed average against the mean of its row's printed task scores.

    The scores are rounded themselves: an average agrees if some unrounded scores could give it, which is half a unit of
    the scores more than half a unit of the average.
    """
    found = []
    for row in rows:
        scores = [number(row[task]) for task in tasks_of(row)]
        printed = number(row.get("avg", ""))
        known = [s for s in scores if s is not None]
        if printed is not None and known and len(known) == len(scores):
            computed, verdict = against(printed, mean(known))
            found.append(Finding("average", title(table), label(row), "avg", printed, computed, verdict))
    return found


def speedups(table: str, rows: Sequence[Row], reference: str = "full") -> list[Finding]:
    """Every printed speed-up against the ratio of the printed times."""
    times = {row["method"]: number(row["time_s"]) for row in rows}
    base = times.get(reference)
    found = []
    for row in rows:
        printed, time = number(row["speedup"]), times[row["method"]]
        if base is not None and time is not None and printed is not None and row["method"] != reference:
            computed, verdict = against(printed, Interval.of(base) / Interval.of(time))
            name = f"{row['model']} {row['method']}"
            found.append(Finding("speed-up", title(table), name, "speedup", printed, computed, verdict))
    return found

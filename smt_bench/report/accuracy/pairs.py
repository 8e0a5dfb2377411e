"""Paired comparisons as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from smt_bench.evidence.cells import Cells, common_tasks, groups
from smt_bench.evidence.pairs import verdicts
from smt_bench.evidence.stats import RESAMPLES
from smt_bench.evidence.words import percent, task_title, title
from smt_bench.records.store import Record
from smt_bench.report import notes
from smt_bench.report.accuracy.claims import versus
from smt_bench.report.conditions import parts
from smt_bench.report.table import Cell, Table


def comparisons(records: Iterable[Record] | Cells, model: str, reference: str) -> Table:
    """`verdicts` as a table.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    frame = verdicts(found, reference)
    frame = frame.astype(object).where(frame.notna(), None)
    tasks = common_tasks(found)
    # One side of every comparison trains.
    mark = notes.OVERLAP_MARK if notes.overlapping(found) & set(tasks) else ""
    rows: list[list[Cell]] = []
    data: list[dict[str, Any]] = [
        {str(name): _number(value) for name, value in row.items()} for _, row in frame.iterrows()
    ]
    for row in data:
        sides = [_side(row["method"], row["fraction_pct"]), _side(row["versus"], row["versus_fraction_pct"])]
        points = versus(row, "", 1)
        points = None if points is None else points + mark
        nats = versus(row, "nll_", 4)
        rows.append([" vs ".join(sides), str(row["n_seeds"]), points, row["verdict"], nats, row["nll_verdict"]])
    told = sum(row["difference"] is not None for row in data)
    named = ", ".join(map(task_title, tasks)) or "no task"
    lines = [
        f"Accuracy: difference in points, first minus second, mean over {named}; held-out NLL: "
        "difference in nats per response token, lower is better.",
        f"[low, high]: 95 % percentile interval of a paired bootstrap over examples ({RESAMPLES:,} resamples within "
        "tasks; answers averaged over the seeds that both sides have, so differences can deviate from the table's).",
        "±: 95 % Student-t interval of the differences of equal seeds; blank with one seed. Better: both leave out 0.",
        f"{told} comparisons, not corrected for their number: by chance about {0.05 * told:.1f} would leave out 0.",
        *parts(found),
        *notes.overlap(found, tasks),
        *notes.losses(found),
    ]
    header = ["comparison", "seeds", "accuracy (points)", "verdict", "held-out NLL (nats)", "verdict on NLL"]
    return Table(f"Paired comparisons, {model}", header, rows, lines, data, list(frame.columns))


def _number(value: Any) -> Cell:
    found: Cell = value.item() if isinstance(value, np.generic) else value
    return found


def _side(method: str, fraction_pct: float | None) -> str:
    return title(method) + ("" if fraction_pct is None else f" {percent(fraction_pct)}")

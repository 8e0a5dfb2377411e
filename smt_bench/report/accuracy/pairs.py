"""Exploratory comparisons of all pairs, as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from smt_bench.evidence.cells import Cells, common_tasks, groups
from smt_bench.evidence.decisions import OPEN, margins
from smt_bench.evidence.pairs import verdicts
from smt_bench.evidence.words import percent, task_title, title
from smt_bench.records.store import Record
from smt_bench.report import notes
from smt_bench.report.accuracy.claims import DIGITS, INTERVAL, missed, p_value, sources, versus
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
        rows.append([" vs ".join(sides), str(row["n_seeds"]), points, p_value(row["p"]), _said(row, "")])
        rows[-1] += [versus(row, "nll_", 4), p_value(row["nll_p"]), _said(row, "nll_")]
    told = sum(row["p"] is not None for row in data)
    named = ", ".join(map(task_title, tasks)) or "no task"
    m = margins()
    lines = [
        f"Exploratory: nobody declared these {len(data)} comparisons beforehand; the p values of the {told} with an interval are "
        "corrected together (Benjamini and Hochberg): of those named ahead 5 % are expected to be wrong. The paper's claims are "
        "judged elsewhere.",
        f"Accuracy: difference in points, first minus second, mean over {named}; held-out NLL: difference in nats per response "
        "token, lower is better.",
        INTERVAL,
        f"Within the margin: the 90 % interval lies within ± {m.points:g} point{'' if m.points == 1 else 's'} (± "
        f"{m.nats:g} nats); ahead: else, the corrected p is at most 0.05. In brackets the smallest difference that "
        "these seeds and examples find with 80 % power, before the correction.",
        *parts(found),
        *sources(found, tasks),
        *notes.overlap(found, tasks),
        *notes.losses(found),
    ]
    header = [
        "comparison",
        "seeds",
        "accuracy, points",
        "p",
        "decision",
        "held-out NLL, nats",
        "p (NLL)",
        "decision on NLL",
    ]
    return Table(f"Exploratory comparisons, {model}", header, rows, lines, data, list(frame.columns))


def _said(row: dict[str, Any], prefix: str) -> str:
    text, smallest = str(row[f"{prefix}verdict"]), row[f"{prefix}smallest"]
    return f"{text} ({missed(smallest, DIGITS[prefix])})" if text == OPEN and smallest is not None else text


def _number(value: Any) -> Cell:
    found: Cell = value.item() if isinstance(value, np.generic) else value
    return found


def _side(method: str, fraction_pct: float | None) -> str:
    return title(method) + ("" if fraction_pct is None else f" {percent(fraction_pct)}")

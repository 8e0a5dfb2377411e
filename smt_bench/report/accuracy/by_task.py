"""Accuracy by task (SMT's table 2; its table 5 for math), from records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from smt_bench.data.tasks import TASKS
from smt_bench.evidence import published as papers
from smt_bench.evidence.cells import Cells, common_tasks, groups, summarise
from smt_bench.evidence.group import keys_of
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import percent, task_title, title
from smt_bench.records.store import Record
from smt_bench.report import notes, trained
from smt_bench.report.accuracy.by_fraction import publishable
from smt_bench.report.accuracy.claims import LIMITED, PUBLISHED, limited, minus_published
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table


def table2(records: Iterable[Record] | Cells, model: str) -> Table:
    """Accuracy per task, a row per method and fraction; published ones and the differences below where they are comparable.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    summary = summarise(found)
    tasks = common_tasks(found)
    shared = notes.overlapping(found)
    theirs = papers.by_task(model, found[0].run["data"]["family"])
    comparable, reasons = publishable(found, model)
    theirs = theirs if comparable else theirs.iloc[:0]
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    cut = False
    for group, (_, line) in zip(found, summary.iterrows()):
        scores = [group.answers.accuracies([t]) for t in tasks]
        if tasks:
            scores.append(group.answers.accuracies(tasks))
        pairs = [mean_ci(s) if s else (None, None) for s in scores] or [(None, None)]
        marked = [group.trains and t in shared for t in tasks]
        marked.append(any(marked))  # the average
        shown: list[Cell] = [_pair(mean, ci, mark) for (mean, ci), mark in zip(pairs, marked)]
        if not group.done:
            shown = [*[None] * (len(pairs) - 1), group.status]
        share = None if group.fraction_pct is None else percent(group.fraction_pct)
        rows.append([title(group.method), share or _realised(line), str(len(group.done)), *shown])
        data.append(_wide(group.method, "ours", group.fraction_pct, len(group.done), tasks, [p[0] for p in pairs]))
        data[-1] |= dict(zip((f"{name}_ci95" for name in (*tasks, "avg")), (p[1] for p in pairs)))
        data[-1]["overlap"] = None if pd.isna(line["overlap"]) else int(line["overlap"])
        data[-1]["keys"] = keys_of([group])
        for _, row in theirs.iterrows():
            wanted = 100.0 if group.fraction_pct is None else group.fraction_pct
            if row["method"] == group.method and abs(row["params_pct"] - wanted) <= papers.NEAR * wanted:
                values = _published_row(row, tasks)
                texts = [None if v is None else f"({v:.1f})" for v in values]
                rows.append([f"{title(group.method)} (published)", f"({percent(row['params_pct'])})", "", *texts])
                parts = [*([t] for t in tasks), tasks]
                apart = [minus_published(group, part, tasks, v) for part, v in zip(parts, values)]
                cut = cut or limited(group, tasks)
                rows.append([f"{title(group.method)} − published", "", "", *apart])
                printed = None if row["params_pct"] == 100 else float(row["params_pct"])
                data.append(_wide(group.method, "published", printed, None, tasks, values))
                data[-1] |= dict.fromkeys([*(f"{name}_ci95" for name in (*tasks, "avg")), "overlap", "keys"])
    lines = [notes.coverage(summary), "AVG: over exactly the tasks of the header.", notes.spread(summary)]
    lines.append("Column seeds: runs behind the numbers of a row.")
    lines += notes.floor(found, tasks)
    lines += notes.overlap(found, tasks)
    lines += reasons
    if len(rows) > len(found):
        lines.append(f"In brackets: published, single runs. {LIMITED if cut else PUBLISHED}")
    lines += [*trained.setting(found), *trained.deviations(found), notes.format_failures(summary), *notes.losses(found)]
    header = ["method", "parameters", "seeds", *map(task_title, tasks), "AVG"]
    return Table(f"Table 2: accuracy (%) by task, {model}", header, rows, lines, data)


def _realised(line: pd.Series) -> str:
    return "" if math.isnan(line["trainable_pct"]) else percent(line["trainable_pct"])


def _pair(mean: float | None, ci: float | None, marked: bool) -> str | None:
    text = written(mean, 1, ci)
    return text if text is None or not marked else text + notes.OVERLAP_MARK


def _wide(
    method: str, source: str, pct: float | None, seeds: int | None, tasks: Sequence[str], values: Sequence[float | None]
) -> dict[str, Cell]:
    head: dict[str, Cell] = {"method": method, "source": source, "fraction_pct": pct, "n_seeds": seeds}
    return head | dict(zip((*tasks, "avg"), values))


def _published_row(row: pd.Series, tasks: Sequence[str]) -> list[float | None]:
    """Published numbers of these tasks, and the printed average; blank where one is missing."""
    columns = [TASKS[t].published_column for t in tasks]
    values = [None if c is None or c not in row or math.isnan(row[c]) else float(row[c]) for c in columns]
    # No task: the runs that should be averaged are all lost, and the header has no column for one.
    return [*values, float(row["avg"]) if tasks else None]

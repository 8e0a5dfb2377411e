"""A table of variants: the same training under changed settings, one row each, and what it says of the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smt_bench.evidence.cells import Cells, Group, common_tasks, groups, in_order, summarise
from smt_bench.evidence.claims import Sheet, Weighed, matches_paper, weighed
from smt_bench.evidence.interval import spread
from smt_bench.evidence.pairs import compare
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import percent, task_title
from smt_bench.records.store import Record
from smt_bench.report import notes, trained
from smt_bench.report.accuracy.claims import (
    INTERVAL,
    LIMITED,
    PUBLISHED,
    against,
    claims_table,
    limited,
    minus_published,
    sources,
    verdict_lines,
    versus,
)
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Made, Table

__all__ = ["Sheet", "matches_paper", "relabelled", "rows_of", "write_groups", "write_sheet"]


def rows_of(records: Iterable[Record], sheet: Sheet) -> list[Group]:
    """The sheet's cells, in its order; a record's method gets the row's label as its name.

    Raises:
        ValueError: no record of this table, or records that no table may compare.
    """
    named = [(sheet.label(r), r) for r in records]
    found = groups(relabelled(record, label) for label, record in named if label is not None)
    place = {label: i for i, label in enumerate(sheet.order)}
    return sorted(found, key=lambda g: (g.fraction or 0, place.get(g.method, len(place)), g.method))


def relabelled(record: Record, label: str) -> Record:
    """The record with another name for its method; the stored one stays as it is."""
    run = record["run"]
    return record | {"run": {**run, "method": {**run["method"], "name": label}}}


def _at_budget(group: Group, sheet: Sheet) -> bool:
    """Whether a row has the trainable percentage of the printed one; the paper itself writes 0.84 and 0.86 for the same."""
    if sheet.printed_pct is None or group.fraction_pct is None:
        return True
    return abs(group.fraction_pct - sheet.printed_pct) < 0.05 * sheet.printed_pct


def write_sheet(records: Sequence[Record], folder: Path, model: str, sheet: Sheet) -> list[Path]:
    """Writes the table and, beside it, the claims with their evidence; the table first.

    Raises:
        ValueError: no record of this table, or records that no table may compare.
    """
    return write_groups(rows_of(records, sheet), folder, model, sheet)


def write_groups(found: Sequence[Group], folder: Path, model: str, sheet: Sheet) -> list[Path]:
    """The same from cells that are there already, whose methods are called as the rows are."""
    judged = weighed(found, sheet)
    files = _table(found, model, sheet, judged).write(folder, sheet.name)
    if judged:
        files += claims_table(found, model, sheet, judged).write(folder, f"{sheet.name}_claims")
    return files


def _table(found: Sequence[Group], model: str, sheet: Sheet, judged: Sequence[Weighed]) -> Table:
    tasks = common_tasks(found)
    comparable = matches_paper(found, model, sheet.printed_on)
    comparable = comparable and sheet.printed_family in (None, found[0].run["data"]["family"])
    shared = notes.overlapping(found) & set(tasks)
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for group in found:
        line = _numbers(group, tasks, found, sheet)
        printed = sheet.printed(group.method, group.fraction_pct) if comparable and _at_budget(group, sheet) else None
        line["published"] = printed
        line["published_pct"] = None if printed is None else sheet.printed_at(group.method, group.fraction_pct)
        line["minus_published"] = None if printed is None or line["accuracy"] is None else line["accuracy"] - printed
        mark = notes.OVERLAP_MARK if shared and group.trains and line["accuracy"] is not None else ""
        cells: list[Cell] = [
            group.method,
            "" if group.fraction_pct is None else percent(group.fraction_pct),
            len(group.done),
            (written(line["accuracy"], 1, line["ci95"]) or group.status) + mark,
        ]
        if comparable:
            at = line["published_pct"]
            shown = written(printed, 1)
            cells.append(shown if shown is None or at is None else f"{shown} ({percent(at)})")
            cells.append(minus_published(group, tasks, tasks, printed))
        cells += [
            versus(line, "", 1),
            written(line["heldout_nll"], 4, line["heldout_nll_ci95"]),
            versus(line, "nll_", 4),
        ]
        rows.append(cells)
        for task in tasks:
            line[task] = _mean(group.answers.accuracies([task]))
        data.append(line | {"keys": " ".join(r["key"] for r in (*group.done, *group.lost))})
    header = [sheet.first, "trainable", "seeds", "accuracy, %"]
    header += ["published", "ours − published"] if comparable else []
    header += [f"minus {sheet.reference}, points", "held-out NLL", f"minus {sheet.reference}, nats"]
    return Table(f"{sheet.heading}, {model}", header, rows, _lines(found, sheet, judged, comparable), data)


def _numbers(group: Group, tasks: Sequence[str], found: Sequence[Group], sheet: Sheet) -> dict[str, Any]:
    summary = summarise(Cells((group,))).iloc[0]
    line: dict[str, Any] = {"row": group.method, "fraction_pct": group.fraction_pct, "n_seeds": len(group.done)}
    # Averages cover the tasks that all rows have.
    scores = group.answers.accuracies(tasks) if tasks else []
    line |= dict(zip(("accuracy", "ci95"), mean_ci(scores) if scores else (None, None)))
    for name in ("stderr", "heldout_nll", "heldout_nll_ci95", "format_failure_pct", "trainable_pct"):
        line[name] = None if math.isnan(summary[name]) else float(summary[name])
    rival = [g for g in found if g.method == sheet.reference and g.fraction == group.fraction]
    rival = rival or [g for g in found if g.method == sheet.reference]
    alone = len(rival) == 1 and rival[0] is not group
    return line | against(compare(group, rival[0], tasks) if alone else None)


def _lines(found: Sequence[Group], sheet: Sheet, judged: Sequence[Weighed], comparable: bool) -> list[str]:
    summary = summarise(in_order(found)) if _distinct(found) else None
    lines = verdict_lines(judged, sheet.name)
    lines += sheet.remarks
    tasks = common_tasks(found)
    told = ", ".join(map(task_title, tasks)) or "no task"
    lines.append(f"Accuracy: mean over {told}, every task counting the same.")
    lines += notes.floor(found, tasks)
    equal = any(g.trains and len(g.done) > 1 and tasks and not spread(g.answers.accuracies(tasks)) for g in found)
    where = ", none where all seeds gave the same" if equal else ""
    lines.append(
        f"±: 95 % over seeds{where}. Differences from {sheet.reference}: {INTERVAL} Held-out NLL in nats per token."
    )
    lines += sources(found, common_tasks(found))
    if comparable:
        cut = any(limited(g, common_tasks(found)) for g in found)
        lines.append(f"Published: {sheet.source}, single runs. {LIMITED if cut else PUBLISHED}")
    elif sheet.source:
        lines.append(
            f"Published numbers ({sheet.source}) are on another model or protocol: only their signs are compared."
        )
    rates = {g.run["train"]["lr"] for g in found if g.trains}
    setting = trained.setting(found)
    if len(rates) == 1:
        setting = [line for line in setting if not line.startswith("Learning rates")] + [
            Made(f"Learning rate: {rates.pop():g} in all rows.")
        ]
    lines += [*setting, *trained.deviations(found)]
    if summary is not None:
        lines.append(notes.format_failures(summary))
    lines += notes.overlap(found, common_tasks(found))
    return [*lines, *notes.losses(found), notes.provenance(found)]


def _distinct(found: Sequence[Group]) -> bool:
    keys = [r["key"] for g in found for r in (*g.done, *g.lost)]
    return len(keys) == len(set(keys))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None

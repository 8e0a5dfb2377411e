"""Accuracy by method and trainable fraction (SMT's table 3) and by task (its table 2), from records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from smt_bench import notes
from smt_bench import published as papers
from smt_bench.stats import mean_ci
from smt_bench.store import Record
from smt_bench.summary import Group, accuracy, common_tasks, groups, percent, rank, summarise, task_title, title
from smt_bench.tables import Cell, Table
from smt_bench.tasks import TASKS

_OWN = "own fraction"  # column of methods that take no fraction and whose records do not say what it came to
_SAME = 0.05  # relative; the papers print 0.83, 0.84 and 0.86 for the same request


def table3(records: Iterable[Record], model: str, published: bool) -> Table:
    """Average accuracy by method (rows) and trainable fraction (columns), with the published averages beside ours.

    Args:
        records: of one experiment on one model.
        model: name for the title, and for looking up published numbers.
        published: whether to show those.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    cells = plateau_cells(found, model, published)
    best, winner = _marks(cells, "accuracy", highest=True)
    texts = [_cell(row, "accuracy", "ci95", 1, i in winner, i in best, cells) for i, row in cells.iterrows()]
    lines = [
        notes.coverage(cells),
        notes.spread(cells),
        r"Bold: best method of the column. \*: best fraction of the row. Ties are all marked; nothing without a rival.",
    ]
    lines += notes.overlap(found, cells["tasks"].iloc[0])
    if cells["published"].notna().any():
        lines.append(_published_note(cells["tasks"].iloc[0]))
    lines += [*notes.setting(found), *notes.deviations(found), notes.format_failures(cells), *notes.losses(found)]
    data: list[dict[str, Cell]] = []
    for i, row in cells.iterrows():
        missing = math.isnan(row["accuracy"])
        data.append(
            {name: row[name] for name in ("method", "fraction_pct", "trainable_pct", "capacity_unit")}
            | {"capacity": None if pd.isna(row["capacity"]) else int(row["capacity"])}
            | {name: row[name] for name in ("lr", "accuracy", "ci95", "stderr")}
            | {"n_seeds": int(row["n_seeds"]), "n_examples": None if missing else int(row["n_examples"])}
            | {"best": None if missing else int(i in best), "published": row["published"]}
            | {name: row[name] for name in ("heldout_nll", "heldout_nll_ci95", "format_failure_pct")}
            | {"overlap": None if pd.isna(row["overlap"]) else int(row["overlap"])}
            | {"diverged": int(row["diverged"]), "failed": int(row["failed"]), "keys": " ".join(row["keys"])}
        )
    header, rows = _grid(cells, texts)
    heading = f"Table 3: accuracy (%) by method and trainable parameters (% of the model), {model}"
    return Table(heading, header, rows, [*lines, notes.provenance(found)], data)


def table3_heldout(records: Iterable[Record], model: str) -> Table:
    """The same grid with held-out response NLL, which separates methods where accuracy cannot.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    cells = plateau_cells(found, model, published=False)
    best, winner = _marks(cells, "heldout_nll", highest=False)
    value, ci = "heldout_nll", "heldout_nll_ci95"
    texts = [_cell(row, value, ci, 4, i in winner, i in best, cells) for i, row in cells.iterrows()]
    lines = [
        f"Negative log-likelihood of held-out responses given their prompts (nats per token; lower is better); "
        f"{cells['n_heldout'].max():,} examples, in no training set.",
        notes.spread(cells),
        r"Bold: lowest of the column. \*: lowest of the row. Ties are all marked; nothing without a rival.",
        *notes.setting(found),
        *notes.deviations(found),
        *notes.losses(found),
        notes.provenance(found),
    ]
    names = ("method", "fraction_pct", "trainable_pct", "heldout_nll", "heldout_nll_ci95", "heldout_nll_stderr")
    data: list[dict[str, Cell]] = [
        {name: row[name] for name in names}
        | {"n_seeds": int(row["n_seeds"]), "n_heldout": int(row["n_heldout"]) or None, "keys": " ".join(row["keys"])}
        for _, row in cells.iterrows()
    ]
    header, rows = _grid(cells, texts)
    heading = f"Held-out response NLL by method and trainable parameters (% of the model), {model}"
    return Table(heading, header, rows, lines, data)


def plateau_cells(found: Sequence[Group], model: str, published: bool) -> pd.DataFrame:
    """The summary with a column `published`, and rows for published cells that were not run."""
    cells = summarise(r for g in found for r in (*g.done, *g.lost)).assign(published=np.nan)
    if not published or found[0].run["data"]["family"] != "commonsense":
        return cells
    extra = []
    for method, pct, value in papers.plateau(model).itertuples(index=False):
        same = (cells["method"] == method) & ((cells["fraction_pct"].fillna(100) - pct).abs() < 0.005)
        if same.any():
            cells.loc[same, "published"] = value
        else:
            blank: dict[str, Any] = dict.fromkeys(cells.columns)
            blank |= {
                "method": method,
                "published": value,
                "tasks": cells["tasks"].iloc[0],
                "capacity_unit": "",
                "status": "",
            }
            blank |= {"keys": [], "trained": True, "n_examples": 0, "n_heldout": 0}
            blank |= {"n_seeds": 0, "diverged": 0, "failed": 0, "fraction_pct": None if pct == 100 else pct}
            extra.append(blank | {"trainable_pct": 100.0 if pct == 100 else None})
    if extra:
        cells = pd.concat([cells, pd.DataFrame(extra).astype(cells.dtypes.to_dict())], ignore_index=True)
    order = sorted(cells.index, key=lambda i: (rank(cells["method"][i]), np.nan_to_num(cells["fraction_pct"][i])))
    return cells.loc[order].reset_index(drop=True)


def _column(row: pd.Series) -> float:
    """Where a cell stands: its requested fraction, or what it came to for methods that take none; inf if unknown."""
    for name in ("fraction_pct", "trainable_pct"):
        if not math.isnan(row[name]):
            return float(row[name])
    return math.inf


def _grid(cells: pd.DataFrame, texts: Sequence[str]) -> tuple[list[str], list[list[Cell]]]:
    columns = sorted({_column(row) for _, row in cells.iterrows()})
    by_method: dict[str, dict[float, str]] = {}
    for (_, row), text in zip(cells.iterrows(), texts):
        by_method.setdefault(row["method"], {})[_column(row)] = text
    header = ["method", *(_OWN if math.isinf(c) else percent(c) for c in columns)]
    return header, [[title(method), *(values.get(c, "") for c in columns)] for method, values in by_method.items()]


def _marks(cells: pd.DataFrame, value: str, highest: bool) -> tuple[set[int], set[int]]:
    """Rows that are best of their method, and best of their column; nothing is best without a rival."""
    seen = cells[cells[value].notna()]
    seen = seen.assign(column=[_column(row) for _, row in seen.iterrows()])
    found: list[set[int]] = []
    for by in ("method", "column"):
        ahead: set[int] = set()
        for _, rivals in seen.groupby(by):
            top = rivals[value].max() if highest else rivals[value].min()
            if len(rivals) > 1:
                ahead |= set(rivals.index[np.isclose(rivals[value], top, rtol=0, atol=1e-9)])
        found.append(ahead)
    return found[0], found[1]


def _cell(row: pd.Series, value: str, ci: str, digits: int, bold: bool, star: bool, cells: pd.DataFrame) -> str:
    """E.g. "**76.3 ± 1.2**\\* n=2 [1 diverged] (76.3)"."""
    parts = []
    if math.isnan(row[value]):
        parts += [row["status"]] if row["status"] else []
    else:
        text = f"{row[value]:.{digits}f}" + ("" if math.isnan(row[ci]) else f" ± {row[ci]:.{digits}f}")
        text = (f"**{text}**" if bold else text) + (r"\*" if star else "")
        parts.append(text + (notes.OVERLAP_MARK if value == "accuracy" and row["overlap"] > 0 else ""))
        if row["trained"] and len(set(notes.trained_seeds(cells))) > 1:
            parts.append(f"n={row['n_seeds']}")
        parts += [f"[{row['status']}]"] if row["status"] else []
    if value == "accuracy" and not math.isnan(row["published"]):
        parts.append(f"({row['published']:.1f})")
    return " ".join(parts)


def _published_note(tasks: Sequence[str]) -> str:
    theirs = [t.title for t in TASKS.values() if t.family == "commonsense" and t.published_column]
    text = f"In brackets: published (SMT, tables 2 and 3; single runs), averages over {', '.join(theirs)}."
    if [task_title(t) for t in tasks] != theirs:
        text += " Our average covers other tasks: do not compare the two."
    return text


def table2(records: Iterable[Record], model: str, published: bool) -> Table:
    """Accuracy per task, one row per method and fraction; published rows stand below ours where the paper has them.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    summary = summarise(r for g in found for r in (*g.done, *g.lost))
    tasks = common_tasks(found)
    shared = notes.overlapping(found)
    theirs = papers.by_task(model, found[0].run["data"]["family"]) if published else pd.DataFrame()
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for group, (_, line) in zip(found, summary.iterrows()):
        scores = [[accuracy(r, [t]) for r in group.done] for t in tasks]
        if tasks:
            scores.append([accuracy(r, tasks) for r in group.done])
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
        for _, row in theirs.iterrows():
            wanted = 100.0 if group.fraction_pct is None else group.fraction_pct
            if row["method"] == group.method and abs(row["params_pct"] - wanted) <= _SAME * wanted:
                values = _published_row(row, tasks)
                texts = [None if v is None else f"({v:.1f})" for v in values]
                rows.append([f"{title(group.method)} (published)", f"({percent(row['params_pct'])})", "", *texts])
                printed = None if row["params_pct"] == 100 else float(row["params_pct"])
                data.append(_wide(group.method, "published", printed, None, tasks, values))
                data[-1] |= dict.fromkeys([*(f"{name}_ci95" for name in (*tasks, "avg")), "overlap"])
    lines = [notes.coverage(summary), "AVG: over exactly the tasks of the header.", notes.spread(summary)]
    lines.append("Column seeds: runs behind the numbers of a row.")
    lines += notes.overlap(found, tasks)
    if len(rows) > len(found):
        lines.append("In brackets: published; AVG over the same tasks (as printed where these are all of the paper's).")
    lines += [*notes.setting(found), *notes.deviations(found), notes.format_failures(summary), *notes.losses(found)]
    header = ["method", "parameters", "seeds", *map(task_title, tasks), "AVG"]
    return Table(f"Table 2: accuracy (%) by task, {model}", header, rows, lines, data)


def _realised(line: pd.Series) -> str:
    return "" if math.isnan(line["trainable_pct"]) else percent(line["trainable_pct"])


def _pair(mean: float | None, ci: float | None, marked: bool) -> str | None:
    if mean is None:
        return None
    return f"{mean:.1f}" + ("" if ci is None else f" ± {ci:.1f}") + (notes.OVERLAP_MARK if marked else "")


def _wide(
    method: str, source: str, pct: float | None, seeds: int | None, tasks: Sequence[str], values: Sequence[float | None]
) -> dict[str, Cell]:
    head: dict[str, Cell] = {"method": method, "source": source, "fraction_pct": pct, "n_seeds": seeds}
    return head | dict(zip((*tasks, "avg"), values))


def _published_row(row: pd.Series, tasks: Sequence[str]) -> list[float | None]:
    """Published numbers of these tasks and their average; blank where one is missing."""
    columns = [TASKS[t].published_column if t in TASKS else None for t in tasks]
    values = [None if c is None or c not in row or math.isnan(row[c]) else float(row[c]) for c in columns]
    known = [v for v in values if v is not None]
    everything = set(row.index) - {"method", "params_pct", "avg"}
    printed = float(row["avg"]) if set(columns) == everything else (float(np.mean(known)) if known else None)
    return [*values, printed if len(known) == len(values) else None]

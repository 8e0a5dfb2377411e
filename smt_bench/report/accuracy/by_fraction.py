"""Accuracy by method and trainable fraction (SMT's table 3), from records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from smt_bench.evidence import published as papers
from smt_bench.evidence.cells import Cells, Group, common_tasks, groups, summarise
from smt_bench.evidence.claims import why_unpublished
from smt_bench.evidence.decisions import AHEAD, holm
from smt_bench.evidence.pairs import compare, decided
from smt_bench.evidence.words import percent, rank, title
from smt_bench.records.store import Record
from smt_bench.report import notes, trained
from smt_bench.report.accuracy.claims import LIMITED, PUBLISHED, limited, minus_published
from smt_bench.report.accuracy.plateau_verdict import plateau_line
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table

BOLD = (
    "Bold: the {} of its column, where it is told ahead of every other cell there (decisions as in docs/statistics.md, corrected "
    "over the column); elsewhere nothing is."
)
_OWN = "own fraction"  # column of methods that take no fraction and whose records do not say what it came to


def publishable(found: Sequence[Group], model: str) -> tuple[bool, list[str]]:
    """Whether the paper's numbers of this model may stand beside ours; if not, the note that says why."""
    if papers.by_task(model, found[0].run["data"]["family"]).empty:
        return False, ["No published numbers: the paper has none for this model and these tasks."]
    why = why_unpublished(found, model, model)
    return why is None, [] if why is None else [f"No published numbers: those of this model are {why}."]


def table3(records: Iterable[Record] | Cells, model: str, verdict: Sequence[str] = ()) -> Table:
    """Average accuracy by method (rows) and trainable fraction (columns), with the published averages beside ours.

    Args:
        records: of one experiment on one model.
        model: name for the title, and for looking up published numbers; shown where model, protocol and tasks match.
        verdict: what the table says of the paper's claims, in sentences.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    comparable, reasons = publishable(found, model)
    cells = plateau_cells(found, model, comparable)
    winner = _ahead(cells, found, "accuracy")
    texts = [_cell(row, "accuracy", "ci95", 1, i in winner, cells) for i, row in cells.iterrows()]
    lines = [
        *verdict,
        *plateau_line(found),
        notes.coverage(cells),
        notes.spread(cells),
        BOLD.format("highest"),
        *notes.floor(found, cells["tasks"].iloc[0]),
    ]
    lines += notes.overlap(found, cells["tasks"].iloc[0])
    lines += reasons
    if cells["published"].notna().any():
        cut = any(limited(g, cells["tasks"].iloc[0]) for g in found)
        lines.append(f"In brackets: published (SMT, tables 2 and 3; single runs). {LIMITED if cut else PUBLISHED}")
    lines += [*trained.setting(found), *trained.deviations(found), notes.format_failures(cells), *notes.losses(found)]
    data: list[dict[str, Cell]] = []
    for _, row in cells.iterrows():
        missing = math.isnan(row["accuracy"])
        data.append(
            {name: row[name] for name in ("method", "fraction_pct", "trainable_pct", "capacity_unit")}
            | {"capacity": None if pd.isna(row["capacity"]) else int(row["capacity"])}
            | {name: row[name] for name in ("lr", "accuracy", "ci95", "stderr")}
            | {"n_seeds": int(row["n_seeds"]), "n_examples": None if missing else int(row["n_examples"])}
            | {"published": row["published"]}
            | {"minus_published": row["accuracy"] - row["published"]}
            | {name: row[name] for name in ("heldout_nll", "heldout_nll_ci95", "format_failure_pct")}
            | {"overlap": None if pd.isna(row["overlap"]) else int(row["overlap"])}
            | {"diverged": int(row["diverged"]), "failed": int(row["failed"]), "keys": " ".join(row["keys"])}
        )
    header, rows = _grid(cells, texts)
    of = {(g.method, g.fraction_pct): g for g in found}
    apart = [_minus_published(row, of) for _, row in cells.iterrows()]
    differences = {str(row[0]): row[1:] for row in _grid(cells, apart)[1]}
    for i in reversed(range(len(rows))):
        method = str(rows[i][0])
        if any(differences[method]):
            rows.insert(i + 1, [f"{method} − published", *differences[method]])
    heading = f"Table 3: accuracy (%) by method and trainable parameters (% of the model), {model}"
    return Table(heading, header, rows, [*lines, notes.provenance(found)], data)


def table3_heldout(records: Iterable[Record] | Cells, model: str) -> Table:
    """The same grid with held-out response NLL, which separates methods where accuracy cannot.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    cells = plateau_cells(found, model, published=False)
    winner = _ahead(cells, found, "heldout_nll")
    value, ci = "heldout_nll", "heldout_nll_ci95"
    texts = [_cell(row, value, ci, 4, i in winner, cells) for i, row in cells.iterrows()]
    lines = [
        f"Negative log-likelihood of held-out responses given their prompts (nats per token; lower is better); "
        f"{cells['n_heldout'].max():,} examples, in no training set.",
        notes.spread(cells, value, ci),
        BOLD.format("lowest"),
        *trained.setting(found),
        *trained.deviations(found),
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


def plateau_cells(found: Cells, model: str, published: bool) -> pd.DataFrame:
    """The summary with a column `published`, and rows for published cells that were not run."""
    cells = summarise(found).assign(published=np.nan)
    if not published:
        return cells
    extra = []
    for method, pct, value in papers.plateau(model, found[0].run["data"]["family"]).itertuples(index=False):
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


def _ahead(cells: pd.DataFrame, found: Sequence[Group], value: str) -> set[int]:
    """Rows that are the best of their column and are told ahead of every other one there, corrected over these (Holm)."""
    seen = cells[cells[value].notna()]
    of = {(g.method, g.fraction_pct): g for g in found}
    tasks, prefix = common_tasks(found), "" if value == "accuracy" else "nll_"
    ahead: set[int] = set()
    for _, rivals in seen.groupby([_column(row) for _, row in seen.iterrows()]):
        sign = 1 if value == "accuracy" else -1
        cell = {int(str(i)): of.get((row["method"], _fraction(row))) for i, row in rivals.iterrows()}
        first = max(cell, key=lambda i: sign * float(cells[value][i]))
        best = cell.pop(first)
        pairs = [compare(best, other, tasks) for other in cell.values() if best is not None and other is not None]
        if pairs and all(d.zone == AHEAD for d in decided(pairs, prefix, holm)):
            ahead.add(first)
    return ahead


def _fraction(row: pd.Series) -> float | None:
    return None if math.isnan(row["fraction_pct"]) else float(row["fraction_pct"])


def _minus_published(row: pd.Series, of: Mapping[tuple[str, float | None], Group]) -> str:
    group = of.get((row["method"], _fraction(row)))
    if group is None or math.isnan(row["published"]):
        return ""
    return minus_published(group, row["tasks"], row["tasks"], float(row["published"])) or ""


def _cell(row: pd.Series, value: str, ci: str, digits: int, bold: bool, cells: pd.DataFrame) -> str:
    """E.g. "**76.3 ± 1.2** n=2 [1 diverged] (76.3)"."""
    parts = []
    if math.isnan(row[value]):
        parts += [row["status"]] if row["status"] else []
    else:
        text = written(row[value], digits, row[ci]) or ""
        text = f"**{text}**" if bold else text
        parts.append(text + (notes.OVERLAP_MARK if value == "accuracy" and row["overlap"] > 0 else ""))
        if row["trained"] and len(set(notes.trained_seeds(cells))) > 1:
            parts.append(f"n={row['n_seeds']}")
        parts += [f"[{row['status']}]"] if row["status"] else []
    if value == "accuracy" and not math.isnan(row["published"]):
        parts.append(f"({row['published']:.1f})")
    return " ".join(parts)

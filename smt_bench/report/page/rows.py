"""The page's tables: cells, runs, and what lies in the folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.evidence.cells import common_tasks, groups
from smt_bench.evidence.words import family_title, task_title, title
from smt_bench.records.store import Record
from smt_bench.report.numbers import written
from smt_bench.report.page import markup
from smt_bench.report.page.folder import Study, slug
from smt_bench.report.page.fronts import STATES
from smt_bench.report.page.points import BY_NAME, QUANTITIES, Field, state

PICTURES = 900_000  # characters of figures that lie in the page; others are named


def shown(found: Sequence[Study]) -> list[dict[str, Any]]:
    """Every folder with its tables and figures as HTML; the figures as long as there is room."""
    made, room = [], PICTURES
    for study in found:
        pictures = list[dict[str, Any]]()
        for path in study.figures:
            content, width, height = markup.picture(path) if room > 0 else ("", 0, 0)
            room -= len(content)
            pictures.append(
                {"id": f"figure-{study.id}-{slug(path.stem)}", "name": path.stem, "width": width, "height": height}
            )
            pictures[-1]["content"] = content if room > 0 else ""
        tables = [table for path in study.tables for table in markup.tables(path, study.id)]
        if tables or pictures:
            made.append({"study": study, "tables": tables, "pictures": pictures})
    return made


def where(found: Sequence[Study]) -> dict[str, list[str]]:
    """By key of a run the folders whose tables it is in."""
    made: dict[str, list[str]] = {}
    for study in found:
        for key in study.keys:
            made.setdefault(key, []).append(study.place)
    return made


def cells(found: Field) -> dict[str, Any]:
    """The table of cells: header, and rows of text with the keys behind each."""
    shown = [q for q in QUANTITIES if any(q.name in p.values for p in found.points)]
    y = next((q for q in shown if q.kind == "judged"), shown[0])
    x = BY_NAME["fraction"]
    rows = []
    for p in ([found.base] if found.base else []) + found.points:
        numbers = [written(*_both(p.values.get(q.name), q.digits)) or "" for q in shown]
        standing = "" if p is found.base or x.name not in p.values else STATES[state(found, x, y, p)]
        rows.append({"label": p.label, "seeds": len(p.runs), "numbers": numbers, "standing": standing, "keys": p.keys})
    return {"header": [q.title for q in shown], "rows": rows, "lost": found.lost, "x": x.title, "y": y.title,
            "tasks": [task_title(name) for name in found.tasks]}  # fmt: skip


def _both(value: tuple[float, float | None] | None, digits: int) -> tuple[float | None, int, float | None]:
    return (None, digits, None) if value is None else (value[0], digits, value[1])


def run_row(record: Record, made: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table of all runs."""
    run = record["run"]
    row: dict[str, Any] = {
        "key": record["key"],
        "status": record["status"],
        "model": run["model"]["name"],
        "seed": run["seed"],
    }
    if "kind" in run:
        return row | {
            "method": run["kind"],
            "data": "",
            "share": "",
            "accuracy": "",
            "nll": "",
            "seconds": "",
            "lr": "",
        }
    tasks = common_tasks(groups([record])) if record["status"] == "done" else []
    values = {q.name: q.value(record, tasks) for q in QUANTITIES} if record["status"] == "done" else {}
    fraction = run["method"]["fraction"]
    return row | {
        "method": title(run["method"]["name"]),
        "data": family_title(run["data"]["family"]),
        "share": "" if fraction is None else f"{100 * fraction:.4g}",
        "accuracy": written(values.get("accuracy"), 1) or "",
        "nll": written(values.get("nll"), 4) or "",
        "seconds": written(values.get("seconds"), 1) or "",
        "lr": f"{run['train']['lr']:g}" if run["train"]["lr"] else "",
    }

"""The page: from a results folder to one HTML text."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from smt_bench.evidence.cells import common_tasks, groups
from smt_bench.evidence.verdicts import rule as verdict_rule
from smt_bench.evidence.words import family_title, percent, task_title, title
from smt_bench.records import heldout
from smt_bench.records.partial import whole
from smt_bench.records.store import Record, Store
from smt_bench.report.accuracy.tuned import apart, untrained
from smt_bench.report.numbers import written
from smt_bench.report.page import answers, charts, claims, markup
from smt_bench.report.page.charts import Chart
from smt_bench.report.page.details import both
from smt_bench.report.page.folder import Study, slug, studies
from smt_bench.report.page.points import BY_NAME, QUANTITIES, Field, field_of, state

ASSETS = Path(__file__).parent / "assets"
FEW = 800  # records that the page holds closely: curves of 60 points, answers one by one; beyond, less of each
PICTURES = 900_000  # characters of figures that lie in the page; others are named
COSTS = ("fraction", "state", "peak", "seconds")


@dataclass(frozen=True)
class Part:
    """The answer on one model and data set.

    Attributes:
        study: of which runs.
        about: what it is about.
        tuned: hash of the tuning behind rates and settings; empty: the recipe's.
        found: cells and what can be told.
        charts: figures, the fronts first.
    """

    study: Study
    about: str
    tuned: str
    found: Field
    charts: list[Chart]

    @property
    def id(self) -> str:
        """Within the page."""
        return f"{self.study.id}{'-tuned' if self.tuned else ''}"


def page(results: Path) -> str:
    """The whole page.

    Raises:
        ValueError: there is nothing to report; or the packages for figures are not here.
    """
    need()
    store, found = Store(results), studies(results)
    keys = store.keys()
    if not keys and not found:
        raise ValueError(f"{results} holds no runs and no tables: `run` makes some")
    points, most = (60, 3000) if len(keys) <= FEW else (24, 0)
    read = store.mapped(keys, partial(both, points=points, most=most, pool={}))
    details = {made["key"]: made for _, made in read}
    records = {small["key"]: whole(small, store.again) for small, _ in read}
    for key, record in records.items():  # what `records.partial` leaves in the files and points ask of every record
        record |= {name: details[key][name] for name in ("seconds", "memory_bytes") if name in details[key]}
    parts = _parts(found, records, details)
    tunings = [chart for study in found for chart in _tuning(study, records)]
    judged = claims.judged(found, details)
    sizes = Counter(row.study.place for row in judged)
    judged.sort(key=lambda row: ("(" in row.verdict, -sizes[row.study.place]))  # what one seed cannot decide comes last
    computed = claims.computed(found)
    content = {
        "title": _title(records),
        "until": max((r.get("finished") or r["started"] for r in records.values()), default="")[:10],
        "counts": _counts(records.values()),
        "parts": parts,
        "claims": judged,
        "computed": computed,
        "tally": claims.tally,
        "tunings": tunings,
        "studies": _shown(found),
        "runs": [_run(records[key], details[key], found) for key in records],
        "answers": answers,
        "costs": [BY_NAME[name] for name in COSTS],
        "cells": _cells,
        "conditions": conditions,
        "rules": [answers.rule(), verdict_rule()],
        "data": packed(parts, tunings, details, _where(found)),
        "vega": _compressed(vega().encode()),
        "css": (ASSETS / "page.css").read_text(encoding="utf-8"),
        "js": (ASSETS / "page.js").read_text(encoding="utf-8"),
    }
    made: str = _template().render(content)
    return made


def need() -> None:
    """Says what is lacking.

    Raises:
        ValueError: a package is.
    """
    from importlib.util import find_spec

    lacking = [name for name in ("altair", "vl_convert") if find_spec(name) is None]
    if lacking:
        raise ValueError(f'report: {" and ".join(lacking)} not installed: pip install "smt-bench[report]"')


def vega() -> str:
    """Vega, vega-lite and vega-embed as one script that sets `window.vegaEmbed`."""
    import vl_convert

    made: str = vl_convert.javascript_bundle()
    return made


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: value.replace(" %", "\u00a0%") if type(value) is str else value,  # no line begins with "%"
    )  # fmt: skip
    made.filters |= {"slug": slug, "percent": percent, "method": title}
    return made.get_template("page.html")


def _compressed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def packed(
    parts: Sequence[Part], tunings: Sequence[Chart], details: Mapping[str, Any], where: Mapping[str, list[str]]
) -> str:
    """What the script works on: specs of figures and details of runs, compressed."""
    drawn = [chart for part in parts for chart in part.charts] + list(tunings)
    figures = {c.id: {"spec": c.spec, "axes": list(c.axes), "rows": dict(c.rows)} for c in drawn}
    figures |= {name: {"spec": spec, "axes": [], "rows": {}} for name, spec in charts.of_a_run().items()}
    values = {"charts": figures, "runs": details, "where": where}
    return _compressed(json.dumps(values, separators=(",", ":"), allow_nan=False).encode())


def _title(records: Mapping[str, Record]) -> str:
    models = sorted({r["run"]["model"]["name"] for r in records.values()})
    return ", ".join(models[:4]) + (f" and {len(models) - 4} more" if len(models) > 4 else "")


def _counts(records: Iterable[Record]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in records:
        counts[record["status"]] = counts.get(record["status"], 0) + 1
    return counts


def _parts(found: Sequence[Study], records: Mapping[str, Record], details: Mapping[str, Any]) -> list[Part]:
    """One answer per setting: of experiments that share their runs the one with most cells."""
    made: list[tuple[Study, str, Field]] = []
    for study in found:
        own = [records[key] for key in study.keys if key in records and "kind" not in records[key]["run"]]
        if not own or study.tunings:
            continue
        published, by_tuning = apart(own)
        sets = [("", published)]
        if by_tuning:
            tuning, runs = list(by_tuning.items())[-1]
            sets.append((tuning, [*untrained(published), *runs]))
        made += [(study, tuned, f) for tuned, some in sets if some and (f := field_of(some)) is not None]
    made.sort(key=lambda e: (bool(e[2].whys), -len(e[2].points), -len(e[0].tables), e[0].place))
    kept: list[Part] = []
    for study, tuned, field in made:
        keys = {key for p in field.points for key in p.keys}
        if any(keys <= {key for p in part.found.points for key in p.keys} for part in kept):
            continue
        part = Part(study, _about(study, tuned, field, [p.about for p in kept]), tuned, field, [])
        about = part.about
        drawn = (
            charts.pareto(part.id, about, field),
            charts.learning(part.id, about, field, details),
            charts.blocks(part.id, about, field, details),
        )
        part.charts.extend(chart for chart in drawn if chart is not None)
        kept.append(part)
    return kept


def _about(study: Study, tuned: str, field: Field, taken: Sequence[str]) -> str:
    """Model and data; the experiment too where another has the same."""
    run = field.record["run"]
    text = f"{run['model']['name']}, {family_title(run['data']['family'])}" + (
        ", tuned rates and settings" if tuned else ""
    )
    return f"{text} ({study.experiment})" if text in taken else text


def conditions(part: Part) -> str:
    """What stands behind an answer, a sentence."""
    found, record = part.found, part.found.record
    train = record["run"]["train"]
    seeds = sorted({len(p.runs) for p in found.points})
    told = [
        part.study.place,
        f"{' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seed{'' if seeds[-1] == 1 else 's'} per cell",
        f"{train['steps']:,} steps of {train['batch_size']} examples, {train['precision']}",
        f"{sum(record['evaluation'][t]['n'] for t in found.tasks):,} test examples of {len(found.tasks)} tasks",
    ]
    if (record.get("heldout") or {}).get("nll") is not None:
        told.append(f"{len(heldout.examples(record, 'report')[1]):,} held-out examples")
    return " · ".join(told)


def _tuning(study: Study, records: Mapping[str, Record]) -> list[Chart]:
    """The trials of the latest tuning of a folder, and its tuning curves where they were written."""
    if not study.tunings:
        return []
    said = list(study.tunings.values())[-1]
    chosen = {key for winner in (said.get("winners") or {}).values() for key in winner.get("keys", ())}
    own = [records[key] for key in study.keys if key in records and "kind" not in records[key]["run"]]
    seeds = [r["run"]["seed"] for r in own]
    first = [r for r in own if r["run"]["seed"] == min(seeds)]
    spaces = said.get("declared", {}).get("spaces", {})
    rows = []
    for record in first:
        run = record["run"]
        name = run["method"]["name"]
        searched = spaces.get(name, {}).get("spans", {})
        settings = ", ".join(f"{k} {run['method']['config'][k]:.4g}" for k in searched if k in run["method"]["config"])
        rows.append(
            {"name": name, "method": title(name), "lr": run["train"]["lr"], "loss": heldout.nll(record, "tune"),
             "settings": settings or "only the rate", "seed": run["seed"], "key": record["key"], "href": f"#run-{record['key']}",
             "chosen": record["key"] in chosen}
        )  # fmt: skip
    curve = study.folder / "tuning_curve.csv"
    curves = [
        {"name": row["method"], "method": title(row["method"]), "trials": int(row["trials"])}
        | {
            to: float(row[of])
            for to, of in (("median", "median_best"), ("low", "low"), ("high", "high"))
            if row.get(of)
        }
        for row in (folder_rows(curve) if curve.exists() else [])
    ]
    about = study.place.removesuffix("/tuning").replace("/", " on ", 1).replace("/", ", ")
    made = [charts.tuning(study.id, about, rows), charts.best_of(study.id, about, curves)]
    return [chart for chart in made if chart is not None]


def folder_rows(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows, as `folder.rows`."""
    from smt_bench.report.page.folder import rows

    return rows(path)


def _shown(found: Sequence[Study]) -> list[dict[str, Any]]:
    """Every folder with its tables and figures as HTML; the figures as long as there is room."""
    made, room = [], PICTURES
    for study in found:
        pictures = []
        for path in study.figures:
            content = markup.picture(path) if room > 0 else ""
            room -= len(content)
            pictures.append(
                {
                    "id": f"figure-{study.id}-{slug(path.stem)}",
                    "name": path.stem,
                    "content": content if room > 0 else "",
                }
            )
        tables = [table for path in study.tables for table in markup.tables(path, study.id)]
        if tables or pictures:
            made.append({"study": study, "tables": tables, "pictures": pictures})
    return made


def _where(found: Sequence[Study]) -> dict[str, list[str]]:
    where: dict[str, list[str]] = {}
    for study in found:
        for key in study.keys:
            where.setdefault(key, []).append(study.place)
    return where


def _cells(part: Part) -> dict[str, Any]:
    """The table of a part's cells: header, and rows of text with the keys behind each."""
    found = part.found
    shown = [q for q in QUANTITIES if any(q.name in p.values for p in found.points)]
    y = next((q for q in shown if q.kind == "judged"), shown[0])
    x = BY_NAME["fraction"]
    rows = []
    for p in ([found.base] if found.base else []) + found.points:
        numbers = [written(*_both(p.values.get(q.name), q.digits)) or "" for q in shown]
        standing = "" if p is found.base or x.name not in p.values else charts.STATES[state(found, x, y, p)]
        rows.append({"label": p.label, "seeds": len(p.runs), "numbers": numbers, "standing": standing, "keys": p.keys})
    return {"header": [q.title for q in shown], "rows": rows, "lost": found.lost, "x": x.title, "y": y.title,
            "tasks": [task_title(name) for name in found.tasks]}  # fmt: skip


def _both(value: tuple[float, float | None] | None, digits: int) -> tuple[float | None, int, float | None]:
    return (None, digits, None) if value is None else (value[0], digits, value[1])


def _run(record: Record, made: Mapping[str, Any], found: Sequence[Study]) -> dict[str, Any]:
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

"""The page: from a results folder to one HTML text."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from smt_bench.evidence.verdicts import rule as verdict_rule
from smt_bench.evidence.words import family_title, percent, title
from smt_bench.machine.facts import version_of
from smt_bench.machine.remembered import remembered
from smt_bench.records import heldout
from smt_bench.records.partial import whole
from smt_bench.records.store import Record, Store
from smt_bench.report.accuracy.tuned import apart, untrained
from smt_bench.report.page import answers, charts, claims, fronts, rows, tunings
from smt_bench.report.page.details import both
from smt_bench.report.page.drawing import Chart
from smt_bench.report.page.folder import Study, slug, studies
from smt_bench.report.page.points import BY_NAME, JUDGED, Field, field_of

ASSETS = Path(__file__).parent / "assets"
FEW = 800  # records that the page holds closely: curves of 60 points, answers one by one; beyond, less of each
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
    tuned = [chart for study in found for chart in tunings.figures(study, records)]
    judged = claims.judged(found, details)
    sizes = Counter(row.study.place for row in judged)
    judged.sort(key=lambda row: (*_standing(row, records), -sizes[row.study.place], row.study.place))
    computed = claims.computed(found)
    content = {
        "title": _title(records),
        "until": max((r.get("finished") or r["started"] for r in records.values()), default="")[:10],
        "counts": _counts(records.values()),
        "parts": parts,
        "claims": judged,
        "computed": computed,
        "tally": claims.tally,
        "tunings": tuned,
        "studies": rows.shown(found),
        "runs": [rows.run_row(records[key], details[key]) for key in records],
        "answers": answers,
        "costs": [BY_NAME[name] for name in COSTS],
        "cells": rows.cells,
        "conditions": conditions,
        "rules": [answers.rule(), verdict_rule()],
        "data": packed(parts, tuned, details, rows.where(found)),
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
    """Vega, vega-lite and vega-embed as one script that sets `window.vegaEmbed`; made once for a version of the package."""
    import vl_convert

    bundle: Any = vl_convert.javascript_bundle  # its types ask for a snippet, which need not be
    made: str = remembered(["vega", version_of("vl-convert-python")], bundle)
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
    parts: Sequence[Part], tuned: Sequence[Chart], details: Mapping[str, Any], where: Mapping[str, list[str]]
) -> str:
    """What the script works on: specs of figures and details of runs, compressed."""
    drawn = [chart for part in parts for chart in part.charts] + list(tuned)
    figures = {c.id: {"spec": c.spec, "axes": list(c.axes), "rows": dict(c.rows)} for c in drawn}
    figures |= {name: {"spec": spec, "axes": [], "rows": {}} for name, spec in charts.of_a_run().items()}
    values = {"charts": figures, "runs": details, "where": where, "states": fronts.STATES}
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
        fields = [(tuned, field_of(some)) for tuned, some in sets if some]
        made += [(study, tuned, _waiting(f, study.missing)) for tuned, f in fields if f is not None]
    # What decides something first; of that pretrained models before a testbed, tuned rates before a recipe's.
    made.sort(
        key=lambda e: (bool(e[2].whys), *_weight(e[2].record, e[1]), -len(e[2].points), -len(e[0].tables), e[0].place)
    )
    kept: list[Part] = []
    for study, tuned, field in made:
        keys = {key for p in field.points for key in p.keys}
        if any(keys <= {key for p in part.found.points for key in p.keys} for part in kept):
            continue
        part = Part(study, _about(study, tuned, field, [p.about for p in kept]), tuned, field, [])
        about = part.about
        drawn = (
            fronts.pareto(part.id, about, field),
            charts.learning(part.id, about, field, details),
            charts.blocks(part.id, about, field, details),
        )
        part.charts.extend(chart for chart in drawn if chart is not None)
        kept.append(part)
    return kept


def _waiting(found: Field, missing: int) -> Field:
    """Without decisions as long as declared runs are missing."""
    if not missing:
        return found
    why = f"{missing} declared run{' is' if missing == 1 else 's are'} missing"
    return replace(found, zones={name: {} for name in JUDGED}, whys=dict.fromkeys(JUDGED, why))


def _weight(record: Record, tuned: str = "") -> tuple[bool, bool]:
    """For sorting: weights that come with the package are a testbed's; rates are the recipe's unless a tuning found them."""
    found = tuned or record["run"].get("tuning") or (record.get("recipe") or {}).get("tuning")
    return record["run"]["model"].get("weights") == "embedded", not found


def _standing(row: claims.Row, records: Mapping[str, Record]) -> tuple[bool, bool, bool, bool]:
    """For sorting claims: one seed decides nothing and comes last; then as the answers; what was decided before what was not."""
    key = next((key for key in row.keys if key in records), None)
    testbed, untuned = (True, True) if key is None else _weight(records[key])
    return row.single, testbed, untuned, "(" in row.verdict


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
    ]
    if tasks := found.tasks:
        examples = sum(record["evaluation"][t]["n"] for t in tasks)
        told.append(f"{examples:,} test examples of {len(tasks)} task{'' if len(tasks) == 1 else 's'}")
    if (record.get("heldout") or {}).get("nll") is not None:
        told.append(f"{len(heldout.examples(record, 'report')[1]):,} held-out examples")
    return " · ".join(told)

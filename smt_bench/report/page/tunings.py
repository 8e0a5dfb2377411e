"""Tunings as figures: every trial, and the best of so many."""

from __future__ import annotations

from collections.abc import Mapping

from smt_bench.evidence.words import title
from smt_bench.records import heldout
from smt_bench.records.store import Record
from smt_bench.report.page import charts, folder
from smt_bench.report.page.drawing import Chart
from smt_bench.report.page.folder import Study


def figures(study: Study, records: Mapping[str, Record]) -> list[Chart]:
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
        for row in (folder.rows(curve) if curve.exists() else [])
    ]
    about = study.place.removesuffix("/tuning").replace("/", " on ", 1).replace("/", ", ")
    made = [charts.tuning(study.id, about, rows), charts.best_of(study.id, about, curves)]
    return [chart for chart in made if chart is not None]

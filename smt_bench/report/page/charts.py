"""Figures of runs and tunings, one altair spec each: drawn by vega, and as SVG of the same spec in print and without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.evidence.words import percent, title
from smt_bench.report.page.drawing import ACCENT, Chart, colour_of, finished, logs, looks, scale_of, static
from smt_bench.report.page.fronts import SEEDS
from smt_bench.report.page.points import Field


def learning(id_: str, about: str, found: Field, curves: Mapping[str, Mapping[str, Any]]) -> Chart | None:
    """Training loss by step, one line per run, of the cells of one fraction at a time; None without curves."""
    import altair as alt

    runs = [
        {"method": title(p.method), "cell": p.label, "budget": "no fraction" if p.pct is None else percent(p.pct),
         "seed": run["seed"],
         "run": run["key"], "href": f"#run-{run['key']}"}
        for p in found.points
        for run in p.runs[:SEEDS]
        if curves.get(run["key"], {}).get("losses")
    ]  # fmt: skip
    if not runs:
        return None
    budgets = [percent(f) for f in sorted({p.pct for p in found.points if p.pct is not None})] or ["no fraction"]
    first = budgets[-1]
    rows = [row for run in runs if run["budget"] in (first, "no fraction") for row in expanded(run, curves)]
    pick = alt.param(name="budget", value=first, bind=alt.binding_select(options=budgets, name="Trainable fraction "))
    shown = alt.Chart(alt.NamedData(name="curves")).transform_filter(
        "datum.budget == budget || datum.budget == 'no fraction'"
    )
    colour = colour_of(alt, [p.method for p in found.points])
    x = alt.X("step:Q", title="optimizer step", scale=alt.Scale(nice=False))
    y = alt.Y(
        "loss:Q", title="training loss (nats per token)", axis=alt.Axis(tickCount=6), scale=scale_of(alt, logs(rows))
    )
    told = [alt.Tooltip(name) for name in ("cell:N", "seed:N", "step:Q")]
    told += [alt.Tooltip("loss:Q", format=".4~g"), alt.Tooltip("run:N")]
    lines = shown.mark_line(strokeWidth=1.3, opacity=0.85).encode(x=x, y=y, color=colour, detail="run:N")
    spots = shown.mark_circle(size=40, opacity=0.001, cursor="pointer").encode(x=x, y=y, tooltip=told)
    spec = finished(alt.layer(lines, spots).add_params(pick), {"curves": rows}, 280)
    # What is there to be hovered over is not drawn on paper.
    still = {**spec, "layer": [layer for layer in spec["layer"] if layer["mark"].get("opacity") != 0.001]}
    said = f"Training loss by optimizer step of {len(runs)} runs, {about}, at {first} trainable."
    notes = [
        "One line per run; steps are averaged in groups where there are many. Methods without a fraction are always shown."
    ]
    return Chart(
        f"learning-{id_}", f"Learning curves, {about}", said, spec, static(still), rows={"curves": runs}, notes=notes
    )


def expanded(run: Mapping[str, Any], curves: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A run's row with every point of its curve, which the page keeps once (`expanded` in page.js)."""
    return [{**run, "step": step, "loss": loss} for step, loss in curves[run["run"]]["losses"]]


def blocks(id_: str, about: str, found: Field, runs: Mapping[str, Mapping[str, Any]]) -> Chart | None:
    """Where a method's blocks lie: mean count by layer and matrix, of the cells of one label at a time; None without blocks."""
    import altair as alt

    rows = []
    labels = []
    for p in found.points:
        own = [runs[key]["blocks"] for key in p.keys if runs.get(key, {}).get("blocks")]
        counts: dict[tuple[int, str], float] = {}
        for layer, matrix, count in (entry for blocks in own for entry in blocks):
            if layer is not None:
                counts[layer, matrix] = counts.get((layer, matrix), 0.0) + count / len(own)
        if not counts:
            continue
        labels.append(p.label)
        every = {(i, matrix) for i in range(max(layer for layer, _ in counts) + 1) for _, matrix in counts}
        rows += [
            {
                "cell": p.label,
                "layer": layer,
                "matrix": matrix,
                "blocks": round(counts.get((layer, matrix), 0.0), 2),
                "runs": len(own),
            }
            for layer, matrix in sorted(every)
        ]
    if not rows:
        return None
    pick = alt.param(name="cell", value=labels[-1], bind=alt.binding_select(options=labels, name="Cell "))
    base = alt.Chart(alt.NamedData(name="values")).transform_filter("datum.cell == cell")
    place = {"x": alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0)), "y": alt.Y("matrix:N", title=None)}
    told = [alt.Tooltip(f"{name}:N") for name in ("cell", "layer", "matrix", "blocks", "runs")]
    scale = alt.Scale(scheme="viridis", domainMin=0)
    heat = base.mark_rect().encode(
        **place, color=alt.Color("blocks:Q", scale=scale, title="blocks, mean over seeds"), tooltip=told
    )
    spec = finished(alt.layer(heat).add_params(pick), {"values": rows}, 30 * len({r["matrix"] for r in rows}) + 20)
    said = f"Number of chosen blocks by layer and matrix, {about}, {labels[-1]}, mean over seeds."
    return Chart(f"blocks-{id_}", f"Where the chosen blocks lie, {about}", said, spec, static(spec))


def tuning(id_: str, about: str, rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Every trial's loss against its learning rate; None without numbers."""
    import altair as alt

    known = [row for row in rows if row.get("loss") is not None]
    if not known:
        return None
    methods = [row["name"] for row in known]
    names, _, shapes = looks(methods)
    told = [alt.Tooltip(f"{name}:N") for name in ("method", "settings", "seed", "key")] + [
        alt.Tooltip("loss:Q", format=".4~g")
    ]
    x = alt.X("lr:Q", title="learning rate", scale=alt.Scale(type="log", nice=False, padding=14))
    y = alt.Y(
        "loss:Q", title="held-out loss to choose by (nats per token)", scale=scale_of(alt, logs(known), padding=10)
    )
    base = alt.Chart(alt.NamedData(name="values"))
    shape = alt.Shape("method:N", scale=alt.Scale(domain=names, range=shapes), title=None)
    seen = {"x": x, "y": y, "color": colour_of(alt, methods), "shape": shape, "tooltip": told}
    tried = base.transform_filter("!datum.chosen").mark_point(size=55, strokeWidth=1.5, cursor="pointer").encode(**seen)
    chosen = (
        base.transform_filter("datum.chosen")
        .mark_point(size=170, filled=True, opacity=1, cursor="pointer")
        .encode(**seen)
    )
    spec = finished(alt.layer(tried, chosen), {"values": known})
    best = {row["method"]: min(r["loss"] for r in known if r["method"] == row["method"]) for row in known}
    said = f"Held-out loss of {len(known)} trials against their learning rate; best: " + ", ".join(
        f"{name} {value:.4g}" for name, value in best.items()
    )
    notes = [
        "One mark per trial with the first tuning seed; filled: chosen. Other settings vary too: the lower edge is the curve."
    ]
    return Chart(f"tuning-{id_}", f"Trials by learning rate, {about}", said, spec, static(spec), notes=notes)


def best_of(id_: str, about: str, rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The tuning curves: median of the best of so many trials with its band; None without rows."""
    import altair as alt

    known = [row for row in rows if row.get("median") is not None]
    if not known:
        return None
    methods = [row["name"] for row in known]
    base = alt.Chart(alt.NamedData(name="values"))
    x, colour = alt.X("trials:Q", title="trials", scale=alt.Scale(nice=False)), colour_of(alt, methods)
    label = "best held-out loss so far (nats per token)"
    y = alt.Y("median:Q", title=label, scale=alt.Scale(zero=False))
    told = [alt.Tooltip("method:N"), alt.Tooltip("trials:Q")] + [
        alt.Tooltip(f"{n}:Q", format=".4~g") for n in ("median", "low", "high")
    ]
    band = base.transform_filter("isValid(datum.low) && isValid(datum.high)").mark_area(opacity=0.13).encode(
        x=x, y=alt.Y("low:Q", title=label), y2="high:Q", color=colour)  # fmt: skip
    line = base.mark_line(strokeWidth=1.6, point=alt.OverlayMarkDef(size=30)).encode(
        x=x, y=y, color=colour, tooltip=told
    )
    spec = finished(alt.layer(band, line), {"values": known})
    said = f"Median of the lowest held-out loss among so many trials, by method, {about}; numbers in the table tuning_curve."
    return Chart(f"curve-{id_}", f"Tuning curves, {about}", said, spec, static(spec))


def of_a_run() -> dict[str, dict[str, Any]]:
    """Specs of the figures of one run's page, without values: these the page has once."""
    import altair as alt

    def empty() -> Any:
        return alt.Chart(alt.NamedData(name="values"))

    step = alt.X("step:Q", title="optimizer step", scale=alt.Scale(nice=False))
    made = {}
    for name, label in (("loss", "training loss (nats per token)"), ("norm", "gradient norm")):
        told = [alt.Tooltip("step:Q"), alt.Tooltip("value:Q", title=label, format=".4~g")]
        line = empty().mark_line(strokeWidth=1.4, color=ACCENT)
        line = line.encode(x=step, y=alt.Y("value:Q", title=label, scale=alt.Scale(zero=False)))
        spots = empty().mark_circle(size=50, opacity=0.001).encode(x="step:Q", y="value:Q", tooltip=told)
        made[f"run-{name}"] = finished(alt.layer(line, spots), {"values": []}, 200)
    place = {"x": alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0)), "y": alt.Y("matrix:N", title=None)}
    told = [alt.Tooltip(f"{name}:N") for name in ("layer", "matrix", "blocks")]
    colour = alt.Color("blocks:Q", title="blocks", scale=alt.Scale(scheme="viridis", domainMin=0))
    made["run-blocks"] = finished(
        alt.layer(empty().mark_rect().encode(**place, color=colour, tooltip=told)), {"values": []}, 150
    )
    where = {"x": alt.X("column:O", title="block column", axis=alt.Axis(labelOverlap=True, labelAngle=0)),
             "y": alt.Y("row:O", title="block row", axis=alt.Axis(labelOverlap=True))}  # fmt: skip
    told = [alt.Tooltip(f"{name}:O") for name in ("row", "column")]
    made["run-places"] = finished(
        alt.layer(empty().mark_rect(color=ACCENT).encode(**where, tooltip=told)), {"values": []}, 220
    )
    return made

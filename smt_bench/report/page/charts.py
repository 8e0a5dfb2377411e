"""The page's figures, one altair spec each: by vega in the browser, as SVG of the same spec in print and without scripts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from smt_bench.evidence.words import percent, rank, title
from smt_bench.report.canvas import look
from smt_bench.report.page.points import Field, Point, Quantity, state

WIDTH, HEIGHT = 620, 330  # pixels of the static figure; the live one is as wide as its column
SEEDS = 10  # runs of a cell that are drawn one by one; more hide each other
STATES = {
    "front": "on the front: nothing cheaper has a better mean",
    "open": "behind by its mean, but that cannot be told",
    "dominated": "surely worse than a cell that costs no more",
}
ACCENT = "#2a78b5"
INK = "currentColor"  # of the page, so that one drawing serves light and dark
SHAPES = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "<": "triangle-left",
    ">": "triangle-right", "P": "cross", "X": "cross", "*": "triangle", "p": "square", "h": "circle",
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        id: within the page.
        title: what it shows.
        said: the same for who does not see it.
        spec: of vega-lite, complete.
        svg: drawn from it.
        axes: what the axes can be set to: name and title; empty where they cannot.
        rows: the values of all axes, of which the spec holds those of the first choice.
        notes: sentences below.
    """

    id: str
    title: str
    said: str
    spec: dict[str, Any]
    svg: str
    axes: Sequence[Mapping[str, Any]] = ()
    rows: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.1f}".removesuffix(".0") if abs(float(number[0])) >= 1 else f"{float(number[0]):.2g}"


def static(spec: dict[str, Any]) -> str:
    """The spec as SVG without what only a browser's vega needs, in the page's colours."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(json.dumps(spec))
    svg = re.sub(r"</?a\b[^>]*>", "", svg)  # links are the script's
    svg = re.sub(r' (?:role|aria-[a-z]+|pointer-events|class|xmlns:xlink)="[^"]*"', "", svg)
    svg = re.sub(r"<path(?: d=\"[^\"]*\")?(?: display=\"none\")/>", "", svg)
    svg = re.sub(r'<path d="M0,0h0v0h0Z"/>', "", svg)
    # Within tags only: what is written in the figure stays as it is.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"-?\d+\.\d{2,}", _short, tag[0]), svg)
    svg = svg.replace('font-family="sans-serif"', "")
    own = hashlib.sha256(svg.encode()).hexdigest()[
        :8
    ]  # ids are the page's: a hidden figure's gradient draws nothing elsewhere
    svg = re.sub(r'(id="|url\(#)', rf"\g<1>{own}-", svg)
    return re.sub(
        r'^<svg([^>]*?) width="(\d+)" height="(\d+)"', r'<svg\1 width="\2" height="\3" focusable="false"', svg
    )


CONFIG: dict[str, Any] = {
    "background": "transparent",
    "aria": False,  # the figure says in words what it shows
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "tickColor": INK, "domainColor": INK, "gridColor": INK, "gridOpacity": 0.12,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8,
    },
    "legend": {
        "labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "orient": "top", "columns": 6, "symbolLimit": 60, "labelLimit": 0,
    },
}  # fmt: skip


def _finished(chart: Any, rows: Mapping[str, Sequence[Mapping[str, Any]]], height: int = HEIGHT) -> dict[str, Any]:
    """The whole spec; rows are put in behind altair's back, which would look through each."""
    made: dict[str, Any] = chart.properties(width=WIDTH, height=height).to_dict()
    made["datasets"] = dict(rows)
    made["config"] = CONFIG
    made["autosize"] = {"type": "fit-x", "contains": "padding"}
    return made


def _looks(methods: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Titles, colours and shapes; what is black follows the page's ink."""
    names = sorted(set(methods), key=rank)
    looks = [look(name, names) for name in names]
    return (
        [title(name) for name in names],
        [INK if colour == "#000000" else colour for colour, _ in looks],
        [SHAPES.get(marker, "circle") for _, marker in looks],
    )


def _colour(alt: Any, methods: Sequence[str], **changes: Any) -> Any:
    names, colours, _ = _looks(methods)
    return alt.Color("method:N", scale=alt.Scale(domain=names, range=colours), title=None, **changes)


def pareto(id_: str, about: str, found: Field) -> Chart | None:
    """What a cell gives against what it costs; None without two quantities."""
    present = found.present()
    costs = [q for q in present if q.name in ("fraction", "state", "peak", "seconds")]
    judged = [q for q in present if q.kind == "judged"]
    if not costs or not judged:
        return None
    cells = [_cell(found, p, present, costs, judged) for p in found.points]
    runs = [
        {"method": title(p.method), "cell": p.label, "seed": run["seed"], "key": run["key"], "href": f"#run-{run['key']}"}
        | {q.name: run[q.name] for q in present if q.name in run}
        for p in found.points
        for run in p.runs[:SEEDS]
    ]  # fmt: skip
    axes = [
        {"name": q.name, "title": q.title, "high": q.high, "log": _log(found, q), "judged": q.kind == "judged"}
        for q in [*costs, *judged]
    ]
    chosen = projected(cells, runs, axes, costs[0].name, judged[0].name)
    spec = _pareto_spec([p.method for p in found.points], chosen, axes, costs[0], judged[0])
    front = [p.label for p in found.points if state(found, costs[0], judged[0], p) == "front"]
    said = (
        f"{judged[0].title} against {costs[0].title} of {len(cells)} cells, {about}; on the front: {', '.join(front)}. "
        "All numbers stand in the table of cells."
    )
    notes = [
        "Large marks: means over seeds, with 95 % intervals over seeds; small dots: single runs (choose one to open its page). "
        "Filled: " + STATES["front"] + ". Hollow: " + STATES["open"] + ". Faint: " + STATES["dominated"] + ".",
    ]
    if any(len(p.runs) > SEEDS for p in found.points):
        notes.append(f"Small dots: the first {SEEDS} seeds of a cell; means are over all.")
    if len(found.compared) < len(found.points):
        notes.append(
            f"Of {len(found.points)} cells the best {len(found.compared)} (of every fraction) were compared in pairs."
        )
    rows = {"cells": cells, "runs": runs}
    return Chart(
        f"pareto-{id_}", f"What a cell gives and what it costs, {about}", said, spec, static(spec), axes, rows, notes
    )


def _log(found: Field, q: Quantity) -> bool:
    values = [p.values[q.name][0] for p in found.points if q.name in p.values]
    return q.kind != "judged" and min(values) > 0 and max(values) / min(values) > 6


def _cell(
    found: Field, p: Point, present: Sequence[Quantity], costs: Sequence[Quantity], judged: Sequence[Quantity]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": title(p.method), "cell": p.label, "seeds": len(p.runs), "keys": ", ".join(p.keys),
        "href": "#runs:" + ",".join(p.keys),
    }  # fmt: skip
    for q in present:
        if q.name in p.values:
            mean, half = p.values[q.name]
            row[q.name] = round(mean, q.digits + 2)
            if half is not None:
                low, high = max(0.0, mean - half), mean + half
                high = min(100.0, high) if q.unit == " %" else high
                row |= {f"{q.name}_low": round(low, q.digits + 2), f"{q.name}_high": round(high, q.digits + 2)}
    for x in (*costs, *judged):
        for y in judged:
            if x is not y and x.name in p.values and y.name in p.values:
                row[f"state_{x.name}_{y.name}"] = state(found, x, y, p)
    return row


def projected(
    cells: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    axes: Sequence[Mapping[str, Any]],
    x: str,
    y: str,
) -> dict[str, list[dict[str, Any]]]:
    """Rows for the spec with x and y set; what the page's script does when an axis is chosen (`projected` in page.js)."""
    titles = {axis["name"]: axis["title"] for axis in axes}
    made: dict[str, list[dict[str, Any]]] = {"cells": [], "runs": []}
    for name, rows in (("cells", cells), ("runs", runs)):
        for row in rows:
            if row.get(x) is None or row.get(y) is None:
                continue
            ends = {
                f"{a}{end}": row.get(f"{q}{end}", row[q])
                for a, q in (("x", x), ("y", y))
                for end in ("", "_low", "_high")
            }
            told = {"state": row.get(f"state_{x}_{y}", "open")}
            if name == "cells":
                told["standing"] = STATES[told["state"]]
            keep = ("method", "cell", "seed", "seeds", "key", "keys", "href")
            made[name].append(
                {k: row[k] for k in keep if k in row} | ends | told | {"x_title": titles[x], "y_title": titles[y]}
            )
    return made


def _scale(alt: Any, log: bool, **more: Any) -> Any:
    """Without 0, which a log scale has not anyway."""
    return alt.Scale(type="log", nice=False, **more) if log else alt.Scale(type="linear", nice=True, zero=False, **more)


def _pareto_spec(
    methods: Sequence[str], rows: Mapping[str, Any], axes: Sequence[Mapping[str, Any]], x: Quantity, y: Quantity
) -> dict[str, Any]:
    import altair as alt

    names, _, shapes = _looks(methods)
    scales = {axis["name"]: "log" if axis["log"] else "linear" for axis in axes}

    def along(which: str, q: Quantity) -> Any:
        channel = alt.X if which == "x" else alt.Y
        axis = alt.Axis(tickCount=6, grid=which == "y")
        return channel(f"{which}:Q", title=q.title, axis=axis, scale=_scale(alt, scales[q.name] == "log", padding=14))

    shape = alt.Shape("method:N", scale=alt.Scale(domain=names, range=shapes), title=None)
    cells, runs = (alt.Chart(alt.NamedData(name=name)) for name in ("cells", "runs"))
    told = [
        alt.Tooltip("cell:N", title="cell"),
        alt.Tooltip("x:Q", title="x", format=".4~g"),
        alt.Tooltip("y:Q", title="y", format=".4~g"),
    ]
    faint = alt.condition("datum.state == 'dominated'", alt.value(0.4), alt.value(1.0))
    colour = _colour(alt, methods)
    of_cell = [*told, alt.Tooltip("standing:N"), alt.Tooltip("seeds:Q"), alt.Tooltip("keys:N", title="runs")]
    look_like = {
        "x": alt.X("x:Q"),
        "y": alt.Y("y:Q"),
        "shape": shape,
        "color": colour,
        "opacity": faint,
        "tooltip": of_cell,
    }
    point = {"size": 110, "strokeWidth": 1.8, "cursor": "pointer"}
    layers = [
        runs.mark_circle(size=14, opacity=0.5, cursor="pointer").encode(
            x=along("x", x), y=along("y", y), color=colour,
            tooltip=[*told, alt.Tooltip("seed:N"), alt.Tooltip("key:N", title="run")]),
        cells.mark_rule(strokeWidth=1.2).encode(x="x:Q", y="y_low:Q", y2="y_high:Q", color=colour, opacity=faint),
        cells.mark_rule(strokeWidth=1.2).encode(x="x_low:Q", x2="x_high:Q", y="y:Q", color=colour, opacity=faint),
        cells.transform_filter("datum.state == 'front'").mark_point(filled=True, **point).encode(**look_like),
        cells.transform_filter("datum.state != 'front'").mark_point(filled=False, **point).encode(**look_like),
    ]  # fmt: skip
    return _finished(alt.layer(*layers), rows)


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
    colour = _colour(alt, [p.method for p in found.points])
    x = alt.X("step:Q", title="optimizer step", scale=alt.Scale(nice=False))
    y = alt.Y(
        "loss:Q", title="training loss (nats per token)", axis=alt.Axis(tickCount=6), scale=_scale(alt, _logs(rows))
    )
    told = [alt.Tooltip(name) for name in ("cell:N", "seed:N", "step:Q")]
    told += [alt.Tooltip("loss:Q", format=".4~g"), alt.Tooltip("run:N")]
    lines = shown.mark_line(strokeWidth=1.3, opacity=0.85).encode(x=x, y=y, color=colour, detail="run:N")
    spots = shown.mark_circle(size=40, opacity=0.001, cursor="pointer").encode(x=x, y=y, tooltip=told)
    spec = _finished(alt.layer(lines, spots).add_params(pick), {"curves": rows}, 280)
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


def _logs(rows: Sequence[Mapping[str, Any]]) -> bool:
    losses = [row["loss"] for row in rows]
    return bool(min(losses) > 0 and max(losses) / min(losses) > 20)


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
    spec = _finished(alt.layer(heat).add_params(pick), {"values": rows}, 30 * len({r["matrix"] for r in rows}) + 20)
    said = f"Number of chosen blocks by layer and matrix, {about}, {labels[-1]}, mean over seeds."
    return Chart(f"blocks-{id_}", f"Where the chosen blocks lie, {about}", said, spec, static(spec))


def tuning(id_: str, about: str, rows: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Every trial's loss against its learning rate; None without numbers."""
    import altair as alt

    known = [row for row in rows if row.get("loss") is not None]
    if not known:
        return None
    methods = [row["name"] for row in known]
    names, _, shapes = _looks(methods)
    told = [alt.Tooltip(f"{name}:N") for name in ("method", "settings", "seed", "key")] + [
        alt.Tooltip("loss:Q", format=".4~g")
    ]
    x = alt.X("lr:Q", title="learning rate", scale=alt.Scale(type="log", nice=False, padding=14))
    y = alt.Y(
        "loss:Q", title="held-out loss to choose by (nats per token)", scale=_scale(alt, _logs(known), padding=10)
    )
    base = alt.Chart(alt.NamedData(name="values"))
    shape = alt.Shape("method:N", scale=alt.Scale(domain=names, range=shapes), title=None)
    seen = {"x": x, "y": y, "color": _colour(alt, methods), "shape": shape, "tooltip": told}
    tried = base.transform_filter("!datum.chosen").mark_point(size=55, strokeWidth=1.5, cursor="pointer").encode(**seen)
    chosen = (
        base.transform_filter("datum.chosen")
        .mark_point(size=170, filled=True, opacity=1, cursor="pointer")
        .encode(**seen)
    )
    spec = _finished(alt.layer(tried, chosen), {"values": known})
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
    x, colour = alt.X("trials:Q", title="trials", scale=alt.Scale(nice=False)), _colour(alt, methods)
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
    spec = _finished(alt.layer(band, line), {"values": known})
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
        made[f"run-{name}"] = _finished(alt.layer(line, spots), {"values": []}, 200)
    place = {"x": alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0)), "y": alt.Y("matrix:N", title=None)}
    told = [alt.Tooltip(f"{name}:N") for name in ("layer", "matrix", "blocks")]
    colour = alt.Color("blocks:Q", title="blocks", scale=alt.Scale(scheme="viridis", domainMin=0))
    made["run-blocks"] = _finished(
        alt.layer(empty().mark_rect().encode(**place, color=colour, tooltip=told)), {"values": []}, 150
    )
    where = {"x": alt.X("column:O", title="block column", axis=alt.Axis(labelOverlap=True, labelAngle=0)),
             "y": alt.Y("row:O", title="block row", axis=alt.Axis(labelOverlap=True))}  # fmt: skip
    told = [alt.Tooltip(f"{name}:O") for name in ("row", "column")]
    made["run-places"] = _finished(
        alt.layer(empty().mark_rect(color=ACCENT).encode(**where, tooltip=told)), {"values": []}, 220
    )
    return made

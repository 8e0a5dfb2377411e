"""Fronts: what a cell gives against what it costs, both axes to be chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.evidence.words import title
from smt_bench.report.page.drawing import Chart, colour_of, finished, looks, scale_of, static
from smt_bench.report.page.points import Field, Point, Quantity, state

SEEDS = 10  # runs of a cell that are drawn one by one; more hide each other
STATES = {
    "front": "on the front: nothing cheaper has a better mean",
    "open": "behind by its mean, but that cannot be told",
    "dominated": "surely worse than a cell that costs no more",
}


def pareto(id_: str, about: str, found: Field) -> Chart | None:
    """What a cell gives against what it costs; None without two quantities."""
    present = found.present()
    costs = [q for q in present if q.name in ("fraction", "state", "peak", "seconds")]
    judged = [q for q in present if q.gives]
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
        {"name": q.name, "title": q.title, "high": q.high, "log": _log(found, q), "gives": q.gives}
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
    """Whether an axis is logarithmic; never where an interval reaches 0, which has no place on it."""
    pairs = [p.values[q.name] for p in found.points if q.name in p.values]
    values, lows = [mean for mean, _ in pairs], [mean - (half or 0.0) for mean, half in pairs]
    return not q.gives and min(lows) > 0 and max(values) / min(values) > 6


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


def _pareto_spec(
    methods: Sequence[str], rows: Mapping[str, Any], axes: Sequence[Mapping[str, Any]], x: Quantity, y: Quantity
) -> dict[str, Any]:
    import altair as alt

    names, _, shapes = looks(methods)
    scales = {axis["name"]: "log" if axis["log"] else "linear" for axis in axes}

    def along(which: str, q: Quantity) -> Any:
        channel = alt.X if which == "x" else alt.Y
        axis = alt.Axis(tickCount=6, grid=which == "y")
        return channel(f"{which}:Q", title=q.title, axis=axis, scale=scale_of(alt, scales[q.name] == "log", padding=14))

    shape = alt.Shape("method:N", scale=alt.Scale(domain=names, range=shapes), title=None)
    cells, runs = (alt.Chart(alt.NamedData(name=name)) for name in ("cells", "runs"))
    told = [
        alt.Tooltip("cell:N", title="cell"),
        alt.Tooltip("x:Q", title="x", format=".4~g"),
        alt.Tooltip("y:Q", title="y", format=".4~g"),
    ]
    faint = alt.condition("datum.state == 'dominated'", alt.value(0.4), alt.value(1.0))
    colour = colour_of(alt, methods)
    of_cell = [*told, alt.Tooltip("standing:N"), alt.Tooltip("seeds:Q"), alt.Tooltip("keys:N", title="runs")]
    look_like: dict[str, Any] = {
        "x": alt.X("x:Q"),
        "y": alt.Y("y:Q"),
        "shape": shape,
        "color": colour,
        "opacity": faint,
        "tooltip": of_cell,
    }
    point: dict[str, Any] = {"size": 110, "strokeWidth": 1.8, "cursor": "pointer"}
    layers = [
        runs.mark_circle(size=14, opacity=0.5, cursor="pointer").encode(
            x=along("x", x), y=along("y", y), color=colour,
            tooltip=[*told, alt.Tooltip("seed:N"), alt.Tooltip("key:N", title="run")]),
        cells.mark_rule(strokeWidth=1.2).encode(x="x:Q", y="y_low:Q", y2="y_high:Q", color=colour, opacity=faint),
        cells.mark_rule(strokeWidth=1.2).encode(x="x_low:Q", x2="x_high:Q", y="y:Q", color=colour, opacity=faint),
        cells.transform_filter("datum.state == 'front'").mark_point(filled=True, **point).encode(**look_like),
        cells.transform_filter("datum.state != 'front'").mark_point(filled=False, **point).encode(**look_like),
    ]  # fmt: skip
    return finished(alt.layer(*layers), rows)

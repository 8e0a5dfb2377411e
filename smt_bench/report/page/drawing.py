"""What all figures of the page share: a figure, its look, and the SVG of its spec."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from smt_bench.evidence.words import rank, title
from smt_bench.report.canvas import look

WIDTH, HEIGHT = 620, 330  # pixels of the static figure; the live one is as wide as its column
ACCENT = "#2a78b5"
INK = "currentColor"  # of the page, so that one drawing serves light and dark
SHAPES = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "<": "triangle-left",
    ">": "triangle-right", "P": "cross", "X": "cross", "*": "triangle", "p": "square", "h": "circle",
}  # fmt: skip


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
        "orient": "top", "columns": 6, "symbolLimit": 60, "labelLimit": 0, "symbolOpacity": 1,
    },
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


def finished(chart: Any, rows: Mapping[str, Sequence[Mapping[str, Any]]], height: int = HEIGHT) -> dict[str, Any]:
    """The whole spec; rows are put in behind altair's back, which would look through each.

    Nor does it check the spec once more, a tenth of the page's time: its parts were checked when they were made.
    """
    made: dict[str, Any] = chart.properties(width=WIDTH, height=height).to_dict(validate=False)
    made["datasets"] = dict(rows)
    made["config"] = CONFIG
    made["autosize"] = {"type": "fit-x", "contains": "padding"}
    return made


def looks(methods: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Titles, colours and shapes; what is black follows the page's ink."""
    names = sorted(set(methods), key=rank)
    looks = [look(name, names) for name in names]
    return (
        [title(name) for name in names],
        [INK if colour == "#000000" else colour for colour, _ in looks],
        [SHAPES.get(marker, "circle") for _, marker in looks],
    )


def colour_of(alt: Any, methods: Sequence[str], **changes: Any) -> Any:
    """A method\'s colour, the same in every figure."""
    names, colours, _ = looks(methods)
    return alt.Color("method:N", scale=alt.Scale(domain=names, range=colours), title=None, **changes)


def scale_of(alt: Any, log: bool, **more: Any) -> Any:
    """Without 0, which a log scale has not anyway."""
    return alt.Scale(type="log", nice=False, **more) if log else alt.Scale(type="linear", nice=True, zero=False, **more)


def logs(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether losses are too far apart for a linear axis."""
    losses = [row["loss"] for row in rows]
    return bool(min(losses) > 0 and max(losses) / min(losses) > 20)

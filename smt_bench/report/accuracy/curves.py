"""SMT's figure 9 from a summary of records: accuracy, and held-out NLL, against the trainable fraction."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from smt_bench.evidence.words import rank, title
from smt_bench.report import notes
from smt_bench.report.canvas import HEIGHT, STYLE, WIDTH, fraction_axis, lay_out, look, save


@dataclass(frozen=True)
class Quantity:
    """What is on the y axis: columns of a summary, and their name."""

    value: str
    over_seeds: str
    over_examples: str
    label: str
    count: str
    unit: str
    digits: int


MOST = 10  # curves that can be told apart
ACCURACY = Quantity("accuracy", "ci95", "stderr", "accuracy (%)", "n_examples", "test examples", 1)
HELDOUT = Quantity(
    "heldout_nll", "heldout_nll_ci95", "heldout_nll_stderr", "held-out response NLL\n(nats per token, lower is better)",
    "n_heldout", "held-out examples", 2,
)  # fmt: skip


def accuracy_by_fraction(
    summary: pd.DataFrame, folder: Path, about: str, published: pd.DataFrame | None = None, name: str = "figure9"
) -> list[Path]:
    """Accuracy against trainable fraction (SMT's figure 9).

    Args:
        summary: of `summary.summarise`.
        folder: where `name`.png and `name`.svg go.
        about: model and data, which the caption begins with.
        published: columns method, fraction_pct (100: a line across) and accuracy; drawn hollow and dashed.
        name: file name.

    Returns:
        The files.
    """
    return _draw(summary, ACCURACY, folder, about, name, published)


def heldout_by_fraction(summary: pd.DataFrame, folder: Path, about: str, name: str = "figure9_heldout") -> list[Path]:
    """The same with held-out response NLL, which separates methods where accuracy cannot."""
    return _draw(summary, HELDOUT, folder, about, name, None)


def _draw(
    summary: pd.DataFrame, what: Quantity, folder: Path, about: str, name: str, published: pd.DataFrame | None
) -> list[Path]:
    if published is None:
        published = pd.DataFrame({"method": [], "fraction_pct": [], "accuracy": []}).astype({"fraction_pct": float})
    with matplotlib.rc_context(STYLE):
        caption = textwrap.wrap(f"{about}. {_caption(summary, what, not published.empty)}", 78)
        figure = Figure(figsize=(WIDTH, HEIGHT + 0.11 * len(caption)))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        methods = sorted({*summary["method"], *published["method"]}, key=rank)
        lines = published[published["fraction_pct"] == 100]
        curves = published[published["fraction_pct"] != 100]
        place = fraction_axis(axes, [*summary["fraction_pct"].dropna(), *curves["fraction_pct"]])
        with_fraction = {*summary["method"][summary["fraction_pct"].notna()], *curves["method"]}
        curved = [m for m in methods if m in with_fraction]
        curved = _named(summary, what, curved, axes, place)
        methods = [m for m in methods if m in curved or m not in with_fraction]
        for i, method in enumerate(curved):
            colour, marker = look(method, methods)
            shift = (i - (len(curved) - 1) / 2) * min(
                0.02, 0.07 / len(curved)
            )  # error bars beside, not over each other
            _published_curve(axes, curves[curves["method"] == method], place, shift, colour, marker)
            _curve(
                axes,
                summary[(summary["method"] == method)],
                what,
                place,
                shift,
                colour,
                marker,
                _over_seeds(summary, what),
            )
        limits = axes.get_ylim() if axes.lines else None
        levels = summary[summary["fraction_pct"].isna()]
        labels = _levels(axes, levels, _bars(levels, what, _over_seeds(summary, what)), lines, what, methods, limits)
        if what is ACCURACY and axes.lines:  # no share lies beyond; a mark at an end stays whole
            low, high = axes.get_ylim()
            room = 0.02 * (high - low)
            axes.set_ylim(max(low, -room), min(high, 100 + room))
        axes.set_ylabel(what.label)
        axes.grid(axis="y", linewidth=0.3, color="#DDDDDD")
        axes.set_axisbelow(True)
        axes.tick_params(width=0.6, length=2.5)
        if not axes.lines:
            axes.text(0.5, 0.5, "no finished run", transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
        lay_out(figure, axes, _handles(curved, methods, not published.empty), caption, labels)
        return [save(figure, folder, f"{name}.{kind}", kind) for kind in ("png", "svg")]


def _named(
    summary: pd.DataFrame, what: Quantity, curved: Sequence[str], axes: Axes, place: dict[float, float]
) -> list[str]:
    """The methods that get a look of their own: all, or where there are too many to tell apart the best; the others are grey."""
    if len(curved) <= MOST:
        return list(curved)
    rows = summary[summary["fraction_pct"].notna() & summary[what.value].notna()]
    best = rows.groupby("method")[what.value].agg("max" if what is ACCURACY else "min")
    named = set(best.sort_values(ascending=what is not ACCURACY).index[:MOST])
    for method in (m for m in curved if m not in named):
        own = rows[rows["method"] == method].sort_values("fraction_pct")
        x = [place[f] for f in own["fraction_pct"]]
        axes.plot(x, own[what.value], color="#BBBBBB", linewidth=0.5, marker=".", markersize=2.0, zorder=1)
    return [method for method in curved if method in named]


def _curve(
    axes: Axes,
    rows: pd.DataFrame,
    what: Quantity,
    place: dict[float, float],
    shift: float,
    colour: str,
    marker: str,
    over_seeds: bool,
) -> None:
    rows = rows[rows["fraction_pct"].notna()].sort_values("fraction_pct")
    if rows[what.value].isna().all():
        return
    x = [place[f] + shift for f in rows["fraction_pct"]]
    # A gap where a fraction has no number: no line is drawn across what is not known.
    axes.errorbar(
        x, rows[what.value], yerr=_bars(rows, what, over_seeds), color=colour, marker=marker, markersize=3.4, linewidth=1.0,
        elinewidth=0.7, capsize=1.6, capthick=0.7, zorder=3,
    )  # fmt: skip


def _bars(rows: pd.DataFrame, what: Quantity, over_seeds: bool) -> np.ndarray:
    """Half-widths, all of one kind: over seeds, 0 where there is one, or 1.96 standard errors over examples."""
    half = rows[what.over_seeds] if over_seeds else 1.96 * rows[what.over_examples]
    return half.fillna(0.0).to_numpy()


def _over_seeds(summary: pd.DataFrame, what: Quantity) -> bool:
    """Which kind of bars a figure has: over seeds where any cell has several."""
    return bool(summary[what.over_seeds].notna().any())


def _published_curve(
    axes: Axes, rows: pd.DataFrame, place: dict[float, float], shift: float, colour: str, marker: str
) -> None:
    if rows.empty:
        return
    rows = rows.sort_values("fraction_pct")
    x = [place[f] + shift for f in rows["fraction_pct"]]
    axes.plot(
        x, rows["accuracy"], color=colour, marker=marker, markersize=3.4, markerfacecolor="white", markeredgewidth=0.7,
        linewidth=0.7, linestyle=(0, (3, 2)), zorder=2,
    )  # fmt: skip


def _levels(
    axes: Axes,
    rows: pd.DataFrame,
    halves: np.ndarray,
    published: pd.DataFrame,
    what: Quantity,
    methods: Sequence[str],
    curves: tuple[float, float] | None,
) -> list[tuple[float, str, str]]:
    """Lines across for methods without a fraction; returns their labels as (y, text, colour).

    A line further from the curves than these are high is not drawn, or it would press them flat: its label stands at
    the edge, with an arrow and the number.
    """
    labels = []
    limits = list(curves or ())
    for (_, row), half in zip(rows.iterrows(), halves):
        if math.isnan(row[what.value]):
            continue
        colour, _ = look(row["method"], methods)
        if curves and not 2 * curves[0] - curves[1] <= row[what.value] <= 2 * curves[1] - curves[0]:
            arrow = "\u2193" if row[what.value] < curves[0] else "\u2191"
            number = f"{row[what.value]:.{what.digits}f}"
            labels.append((row[what.value], f"{title(row['method'])}\n{number} {arrow}", colour))
            continue
        limits += [row[what.value] - half, row[what.value] + half]
        axes.axhline(row[what.value], color=colour, linewidth=0.9, zorder=1.5)
        if half:
            axes.axhspan(row[what.value] - half, row[what.value] + half, color=colour, alpha=0.1, linewidth=0, zorder=1)
        labels.append((row[what.value], title(row["method"]), colour))
    ours = {text for _, text, _ in labels}
    for method, _, value in published[["method", "fraction_pct", "accuracy"]].itertuples(index=False):
        colour, _ = look(method, methods)
        limits.append(value)
        axes.axhline(value, color=colour, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1.5)
        labels.append((value, "publ." if title(method) in ours else f"{title(method)}\n(publ.)", colour))
    if limits:
        margin = 0.05 * (max(limits) - min(limits)) or 1.0
        # The limits around curves have a margin already.
        low = curves[0] if curves and min(limits) == curves[0] else min(limits) - margin
        axes.set_ylim(low, curves[1] if curves and max(limits) == curves[1] else max(limits) + margin)
    return labels


def _handles(curved: Sequence[str], methods: Sequence[str], published: bool) -> list[Line2D]:
    handles = []
    for method in curved:
        colour, marker = look(method, methods)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=3.6, linewidth=1.1, label=title(method)))
    if published:
        style: dict[str, Any] = {"linestyle": (0, (3, 2)), "markerfacecolor": "white", "markeredgewidth": 0.7}
        handles.append(
            Line2D([], [], color="#555555", marker="o", markersize=3.4, linewidth=0.7, label="published", **style)
        )
    return handles


def _caption(summary: pd.DataFrame, what: Quantity, published: bool) -> str:
    drawn = summary[summary[what.value].notna()]
    if drawn.empty:
        return f"No run gave a number. {_without_numbers(summary)}"
    counts = [int(n) for n in drawn.loc[drawn["trained"], "n_seeds"]] or [1]
    text = f"{notes.seeds(counts)}, {drawn[what.count].max():,} {what.unit}"
    if what is ACCURACY:
        n_tasks = len(drawn["tasks"].iloc[0])
        text += f", mean over {n_tasks} task{'s' if n_tasks > 1 else ''}"
    if _over_seeds(drawn, what):
        text += "; bars and bands: 95 % t-interval over seeds" + (", none on one seed" if min(counts) == 1 else "")
    else:
        text += "; bars and bands: 95 % over examples (1.96 standard errors), not over seeds"
    text += "; published: single runs" if published else ""
    others = summary.loc[summary["fraction_pct"].notna(), "method"].nunique() - MOST
    text += f"; grey: {others} other methods, all in the table" if others > 0 else ""
    return f"{text}. {_without_numbers(summary)}".strip()


def _without_numbers(summary: pd.DataFrame) -> str:
    lost = summary[summary["status"] != ""]
    named = [f"{label} ({status})" for label, status in zip(notes.cell_labels(lost), lost["status"])]
    return f"Runs without numbers: {', '.join(named[:6])}{' and more' if len(named) > 6 else ''}." if named else ""

"""What tuning buys: the best of so many trials, with bands, and held-out loss against each knob.

The bands are those of Lourie et al. (2023, arXiv:2311.09480), from the package `opda`: simultaneous over all numbers of trials,
exact for any distribution. Where the lower one reaches the bound that any loss has (0) it says no more: there is only an upper
limit then.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from smt_bench.evidence.words import title
from smt_bench.report.canvas import STYLE, WIDTH, look, save
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table
from smt_bench.report.tuning.rows import Found

CONFIDENCE = 0.95
FEWEST = 3  # trials behind a curve
NLL = "held-out NLL\n(nats per token)"
SHORT = 1.5  # times the least loss; what lies higher is at the upper edge, so that the others can be told apart
FAR = 10.0  # times the least, from which on the best against trials is on a log scale
# Of a log scale that spans more than so many times its low end: the numbers of a decade that stand at it.
TICKS = ((1000, (1.0,)), (30, (1.0, 3.0)), (8, (1.0, 2.0, 5.0)), (0, (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)))
KNOBS = "Circles: chosen. Dashes: the recipe's. Arrows: loss above the axis. Grey crosses: no number."
CURVES = "Dotted: upper end of the 95 % band over all numbers of trials at once; shaded where it has both ends."
Curve = tuple[list[float | None], list[float | None], list[float | None]]


def tuning_curve(losses: list[float], confidence: float = CONFIDENCE) -> Curve:
    """Median of the best loss among n trials, for n = 1 to their number, with the ends of its band.

    Args:
        losses: of independent trials; infinite where one gave no number.
        confidence: of the band, over all n at once.

    Returns:
        Estimates, lower and upper ends (nats per token); None where there is no number, or the band says no more.

    Raises:
        ImportError: `opda` is not installed.
    """
    from opda.nonparametric import EmpiricalDistribution

    ns = np.arange(1, len(losses) + 1)
    # The narrower bands ask for a continuous distribution, which several trials without a number are not.
    method = "ld_highest_density" if len(set(losses)) == len(losses) else "dkw"
    # In this process: forked ones inherit our handler of SIGTERM, by which opda ends them, and then wait for ever.
    low, point, high = EmpiricalDistribution.confidence_bands(
        np.asarray(losses), confidence, a=0.0, b=np.inf, method=method, generator=_generator(len(losses)), n_jobs=1
    )
    # A lower distribution of losses has a higher best one.
    curves = [d.quantile_tuning_curve(ns, minimize=True) for d in (point, high, low)]
    return (
        [_known(v) for v in curves[0]],
        [_known(v) if v > 0 else None for v in curves[1]],
        [_known(v) for v in curves[2]],
    )


@cache
def _generator(trials: int) -> np.random.Generator:
    """For the level of so many trials' band, which is simulated: the same losses have the same band, in every process.

    One object for each number, since `opda` keeps a level by generator.
    """
    return np.random.default_rng(0)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def curve_table(found: Found) -> tuple[Table, dict[str, Curve]]:
    """The best of so many trials by method, at the same numbers of trials and beside them the time these take; and the curves."""
    curves = {method: tuning_curve(losses) for method in found.methods if len(losses := found.losses(method)) >= FEWEST}
    longest = max((len(c[0]) for c in curves.values()), default=0)
    shown = sorted({n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n < longest} | ({longest} if longest else set()))
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for method, (point, low, high) in curves.items():
        seconds = found.seconds(method)
        keys = " ".join(sorted(t.keys[0] for t in found.of(method) if t.status))
        for n in range(1, len(point) + 1):
            spent = None if seconds is None else n * seconds
            line: dict[str, Cell] = {"method": method, "trials": n, "seconds": spent, "median_best": point[n - 1]}
            data.append(line | {"low": low[n - 1], "high": high[n - 1], "keys": keys})
        rows.append(
            [title(method), *(_cell(point, low, high, n) for n in shown), None if seconds is None else f"{seconds:.1f}"]
        )
    lines = [
        "Median of the lowest held-out NLL (nats per response token, part to choose by) among so many independent trials; [low, "
        f"high]: {100 * CONFIDENCE:g} % band over all numbers at once (opda), (≤ high) where it has an upper end only.",
        "Trials after a widening of the rates are counted with the others: together they cover the wider range as densely.",
        "In the figure: shaded where the band has both ends, dotted its upper end.",
        "Seconds: mean of one trial. The CSV file has every number of trials with the time that these take.",
    ]
    header = ["method", *(f"{n} trial{'s' if n > 1 else ''}" for n in shown), "seconds per trial"]
    columns = ("method", "trials", "seconds", "median_best", "low", "high", "keys")
    return Table(f"The best of so many trials, {found.model}", header, rows, lines, data, columns), curves


def _cell(point: list[float | None], low: list[float | None], high: list[float | None], n: int) -> str | None:
    if n > len(point):
        return None
    value, under, over = point[n - 1], low[n - 1], high[n - 1]
    if value is None:
        return None
    text = written(value, 3)
    if over is None:
        return f"{text} [no limit]" if under is None else f"{text} (≥ {under:.3f})"
    return f"{text} (≤ {over:.3f})" if under is None else f"{text} [{under:.3f}, {over:.3f}]"


def draw_curves(found: Found, curves: dict[str, Curve], folder: Path) -> list[Path]:
    """The best against trials, and against the time that these take."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2 * WIDTH, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        names = list(curves)
        ends = [v for point, _, high in curves.values() for v in (*point, *high) if v is not None]
        for method, (point, low, high) in curves.items():
            colour, marker = look(method, names)
            seconds = found.seconds(method)
            ns = np.arange(1, len(point) + 1)
            for axes, unit in ((left, 1.0), (right, seconds)):
                if unit is None:
                    continue
                x = ns * unit
                axes.plot(
                    x, _floats(point), color=colour, marker=marker, markersize=2.4, linewidth=1.0, label=title(method)
                )
                both = [a is not None and b is not None for a, b in zip(low, high)]
                axes.fill_between(x, _floats(low), _floats(high), where=both, color=colour, alpha=0.12, linewidth=0)
                axes.plot(x, _floats(high), color=colour, linewidth=0.7, linestyle=":")
        left.set_xlabel("trials")
        right.set_xlabel("seconds of trials")
        left.set_ylabel(f"median best {NLL}")
        for axes in (left, right):
            _log(axes)
            axes.grid(axis="y", linewidth=0.3, color="#DDDDDD")
        if ends:
            low_end, high_end = min(ends), float(np.quantile(ends, 0.95))
            if 0 < FAR * low_end < high_end:  # linear, what the curves end at would be one line
                left.set_ylim(low_end / 1.15, high_end * 1.15)
                _log(left, "y")
            else:
                margin = 0.15 * (high_end - low_end) or 0.1
                left.set_ylim(max(0.0, low_end - margin), high_end + margin)
            left.legend(frameon=False)
        _caption(figure, CURVES)
        return [save(figure, folder, f"tuning_curve.{kind}", kind) for kind in ("png", "svg")]


def draw_knobs(found: Found, folder: Path) -> list[Path]:
    """Held-out loss against each knob, one row per method: how wide is the basin?"""
    spans_of = {m: {k: s for k, s in spans.items() if s.low < s.high} for m, spans in found.spans.items()}  # searched
    columns = max(len(spans) for spans in spans_of.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2 * WIDTH, 1.5 * len(found.methods) + 0.3), layout="constrained")
        grid = figure.subplots(len(found.methods), columns, squeeze=False, sharey="row")
        for row, method in zip(grid, found.methods):
            colour, marker = look(method, found.methods)
            own = [t for t in found.of(method) if t.loss is not None]
            lost = [t for t in found.of(method) if t.status and t.loss is None]
            top = SHORT * min((t.loss for t in own if t.loss is not None), default=0.0)
            inside = [t for t in own if t.loss is not None and t.loss <= top]
            for axes in row[len(spans_of[method]) :]:
                axes.set_visible(False)
            for axes, (knob, span) in zip(row, spans_of[method].items()):
                x = [t.knobs[knob] for t in inside]
                axes.plot(x, [t.loss for t in inside], linestyle="", color=colour, marker=marker, markersize=3.0)
                for t in (t for t in own if t not in inside):
                    _at_top(axes, t.knobs[knob], "$\\uparrow$", colour, 5)
                for t in (t for t in own if t.winner):
                    axes.plot(
                        t.knobs[knob],
                        t.loss,
                        linestyle="",
                        color="black",
                        marker="o",
                        markersize=6,
                        markerfacecolor="none",
                    )
                for t in lost:
                    _at_top(axes, t.knobs[knob], "x", "#777777", 3)
                usual = found.usual[method].get(knob)
                if usual:
                    axes.axvline(usual, color="#999999", linewidth=0.7, linestyle=(0, (3, 2)))
                if span.log:
                    axes.set_xlim(span.low / 1.1, span.high * 1.1)
                    _log(axes)
                axes.set_xlabel(f"{title(method)}: {knob}")
            row[0].set_ylabel(NLL)
        _caption(figure, KNOBS)
        return [save(figure, folder, f"tuning_knobs.{kind}", kind) for kind in ("png", "svg")]


def _at_top(axes: Axes, x: float, marker: str, colour: str, size: float) -> None:
    axes.plot(x, 0.96, linestyle="", marker=marker, color=colour, markersize=size, transform=axes.get_xaxis_transform())


def _caption(figure: Figure, text: str) -> None:
    figure.supxlabel(text, x=0.01, ha="left", fontsize=5.3, color="#444444")


def _log(axes: Axes, along: str = "x") -> None:
    """A log scale with few plain numbers, also where it is short."""
    axes.set(**{f"{along}scale": "log"})
    axis = axes.xaxis if along == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    subs = next(some for span, some in TICKS if high > span * low)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _floats(values: list[float | None]) -> list[float]:
    return [math.nan if v is None else v for v in values]

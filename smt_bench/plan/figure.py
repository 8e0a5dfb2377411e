"""Stacked bars: memory per GPU by category, one bar per method and fraction, and the GPU's capacity as a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from smt_bench.evidence.words import title
from smt_bench.measuring.account import CATEGORIES
from smt_bench.plan.gpu.hardware import CONTEXT
from smt_bench.plan.row import Row, Target
from smt_bench.report.canvas import STYLE, WIDTH, save

GB = 1e9
BAR = 0.125  # inches per bar
# Okabe-Ito and greys: told apart with any colour vision; hatching where neighbours are alike in grey.
_LOOKS = {
    "parameters": ("parameters", "#4D4D4D", ""),
    "master_copies": ("fp32 master copies", "#A6A6A6", ""),
    "optimizer_state": ("optimizer state", "#0072B2", ""),
    "gradients": ("gradients", "#56B4E9", ""),
    "method_state": ("kept by the method", "#CC79A7", "xxxx"),
    "saved_activations": ("saved activations", "#E69F00", ""),
    "logits_loss": ("logits and loss", "#009E73", "////"),
    "temporaries": ("temporaries", "#F0E442", ""),
}
_LINE = "#D55E00"
assert set(_LOOKS) == set(CATEGORIES)


def draw(rows: Sequence[Row], folder: Path, target: Target) -> list[Path]:
    """Writes `memory.png` and `memory.svg`; nothing where no run is possible."""
    bars: dict[str, dict[str, int]] = {}
    for row in rows:
        name, fraction = title(row.run.method.name), row.run.method.fraction
        asked = "" if fraction is None else f" {100 * fraction:g} %"
        if "warmup" in row.peaks:  # the same for all fractions
            bars.setdefault(f"{name} warm-up", row.peaks["warmup"][2])
        if row.peaks:
            bars.setdefault(f"{name}{asked}", row.peaks["tuning"][2])
    if not bars:
        return []
    with matplotlib.rc_context(STYLE):
        made = _figure(bars, sorted({row.how for row in rows if row.spreads}), target)
        return [save(made, folder, f"memory.{kind}", kind) for kind in ("png", "svg")]


def _figure(bars: dict[str, dict[str, int]], how: Sequence[str], target: Target) -> Figure:
    top, bottom, left = 0.56, 0.62, 0.82
    height = top + bottom + BAR * (len(bars) + 1)
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((left / WIDTH, bottom / height, 1 - (left + 0.12) / WIDTH, 1 - (top + bottom) / height))
    spots = np.arange(len(bars))
    start = np.zeros(len(bars))
    used = [c for c in _LOOKS if any(found.get(c) for found in bars.values())]
    for category in used:
        name, colour, hatch = _LOOKS[category]
        sizes = np.array([found[category] / GB for found in bars.values()])
        axes.barh(
            spots, sizes, left=start, height=0.78, color=colour, hatch=hatch, label=name, linewidth=0, edgecolor="white"
        )
        start += sizes
    capacity, most = target.gpu.free / GB, float(start.max())
    shown = capacity < 3 * most  # else the bars could not be seen
    axes.set_xlim(0, max(most, capacity if shown else 0) * 1.06)
    axes.set_ylim(len(bars) - 0.4, -1.7)
    if shown:
        axes.axvline(capacity, color=_LINE, linewidth=1.1)
    right = not shown or capacity > 0.6 * axes.get_xlim()[1]
    axes.annotate(
        f"{target.gpu.name}: {capacity:.1f}{'' if shown else ' (beyond the axis)'}",
        (capacity if shown else axes.get_xlim()[1], -1.1), xytext=(-3 if right else 3, 0),
        textcoords="offset points", ha="right" if right else "left", va="center", color=_LINE, fontsize=6.5,
    )  # fmt: skip
    axes.set_yticks(spots, list(bars))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("peak memory per GPU (GB, 10⁹ bytes)")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, handlelength=1.2,
        handleheight=0.8, columnspacing=0.9, handletextpad=0.4, borderaxespad=0.2,
    )  # fmt: skip
    caption = f"{target.gpus} x {target.gpu.name}; {'; '.join(how)}\n"
    caption += f"the GPU's capacity leaves out {CONTEXT / GB:.1f} GB of CUDA context"
    figure.text(0.02, 0.03 / height, caption, fontsize=5.3, color="#444444", va="bottom")
    return figure

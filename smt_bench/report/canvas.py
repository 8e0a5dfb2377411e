"""What all figures share: column width, colours and markers, the fraction axis, margins, and files.

No pyplot: a figure is made, saved and gone, with no display and no global state.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from smt_bench.evidence.words import known, percent
from smt_bench.machine.files import write_whole

WIDTH, HEIGHT = 3.4, 2.9  # inches; one column
# For methods without a look of their own; like theirs told apart with any colour vision, and by the marker without colour.
_SPARE = (("#E69F00", "v"), ("#56B4E9", "p"), ("#8C564B", "<"), ("#7F3C8D", "*"), ("#17BECF", ">"), ("#B8A800", "h"))
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "svg.hashsalt": "smt-bench",
    "path.simplify": False,
}


def look(method: str, methods: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of a method: its own; those without share out the spare ones by name."""
    own = {name: found.look for name in methods if (found := known(name)) and found.look}
    if method in own:
        return own[method]
    taken = {colour for colour, _ in own.values()}
    spare = [pair for pair in _SPARE if pair[0] not in taken] or _SPARE
    return spare[sorted(set(methods) - set(own)).index(method) % len(spare)]


def fraction_axis(axes: Axes, fractions: Sequence[float]) -> dict[float, float]:
    """Ticks at the fractions; where each stands between 0 and 1.

    Linear up to a factor of four; beyond, logarithmic, or evenly spaced where labels would meet otherwise.
    """
    known = sorted(set(fractions))
    axes.set_xlim(-0.07, 1.07)
    name = "trainable parameters (% of the model)"
    if len(known) < 2:
        spots = [0.5] * len(known)
    else:
        wide = known[-1] / known[0] > 4
        scale = np.log(known) if wide else np.asarray(known)
        spots = list((scale - scale[0]) / (scale[-1] - scale[0]))
        if min(np.diff(spots)) < 0.1:
            spots = list(np.linspace(0, 1, len(known)))
            name += ", evenly spaced"
        elif wide:
            name += ", log scale"
    crowded = len(known) > 9
    axes.set_xticks(spots, [percent(f).removesuffix(" %") for f in known], rotation=90 if crowded else 0)
    axes.set_xlabel(name if known else "")
    return dict(zip(known, spots))


def lay_out(
    figure: Figure,
    axes: Axes,
    handles: list[Line2D],
    caption: list[str],
    labels: list[tuple[float, str, str]],
) -> None:
    """Sets margins in inches, so that text never meets the plot, and names lines at its right edge.

    Args:
        figure: the figure.
        axes: its plot, with its final limits.
        handles: legend entries, above the plot.
        caption: small lines below.
        labels: (y, text, colour); moved apart where they would overlap, to the edge where y is outside the plot.
    """
    width, height = figure.get_size_inches()
    columns = min(len(handles), 5) or 1
    top = 0.08 + 0.16 * math.ceil(len(handles) / columns)
    right = 0.1 + 0.055 * max((len(line) for _, text, _ in labels for line in text.split("\n")), default=0)
    left, bottom = 0.48 + 0.1 * axes.get_ylabel().count("\n"), 0.43 + 0.11 * len(caption)
    if any(label.get_rotation() for label in axes.get_xticklabels()):
        bottom += 0.2
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes.set_position(box)
    if handles:
        figure.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False,
            handlelength=1.8, columnspacing=0.9, handletextpad=0.4, borderaxespad=0.2,
        )  # fmt: skip
    figure.text(0.02, 0.03 / height, "\n".join(caption), fontsize=5.3, color="#444444", va="bottom", linespacing=1.25)
    low, high = axes.get_ylim()
    inches = (high - low) / (height * box[3])  # y units per inch
    floor = -math.inf
    for y, text, colour in sorted(labels):
        half = 0.055 * (1 + text.count("\n")) * inches
        centre = max(min(max(y, low + half), high - half) if not low <= y <= high else y, floor + half)
        floor = centre + half
        axes.annotate(
            text, (1.0, centre), xycoords=("axes fraction", "data"), xytext=(2, 0), textcoords="offset points",
            color=colour, fontsize=6.5, va="center", linespacing=0.95, annotation_clip=False,
        )  # fmt: skip


def save(figure: Figure, folder: Path, name: str, kind: str) -> Path:
    """Writes a figure as "png" or "svg" so that a reader never sees half a file; returns its path."""
    content = io.BytesIO()
    # No date and no version inside: the same records give the same file.
    metadata: dict[str, Any] = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(content, format=kind, dpi=200, metadata=metadata)
    return write_whole(folder / name, lambda file: file.write(content.getvalue()))

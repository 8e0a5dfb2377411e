"""Time of a step by method, in parts, as stacked bars, with the FLOP limit marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from smt_bench.evidence.words import title
from smt_bench.report.canvas import STYLE, WIDTH, save

# Okabe-Ito, ordered from dark to light, so that the parts also differ in print without colour.
PARTS = {"forward": "#0072B2", "backward": "#D55E00", "optimizer": "#E69F00", "hooks": "#999999"}


def parts_figure(rows: Sequence[dict[str, Any]], folder: Path, caption: str) -> list[Path]:
    """Draws `speed.png` and `speed.svg`.

    Args:
        rows: of `speed_rows`.
        folder: where the files go.
        caption: what was measured, where and how often; printed below in small type.
    """
    steps = [r for r in rows if r["phase"] == "step" and r["method"] != "frozen model"]
    full = next((r["step_ms"] for r in steps if r["method"] == "full"), None)
    many = len({r["fraction"] for r in steps} - {None}) > 1
    with matplotlib.rc_context(STYLE):
        below = 0.43 + 0.1 * (caption.count("\n") + 1)
        figure = Figure(figsize=(WIDTH, below + 0.28 + 0.28 * len(steps)))
        height = figure.get_figheight()
        axes = figure.add_axes((0.2, below / height, 0.74, 1 - (below + 0.24) / height))
        for place, step in enumerate(steps):
            left = 0.0
            for part, colour in PARTS.items():
                same = ("method", "variant", "fraction")
                ms = next(r["step_ms"] for r in rows if r["phase"] == part and all(r[k] == step[k] for k in same))
                axes.barh(place, ms, left=left, height=0.66, color=colour, linewidth=0)
                left += ms
            right = left
            if full and step["flop_limit_ratio"]:
                limit = full / step["flop_limit_ratio"]
                right = max(left, limit)
                axes.plot([limit, limit], [place - 0.42, place + 0.42], color="black", linewidth=1.2)
            ratio = "" if not step["ratio_to_full"] else f" {step['ratio_to_full']:.2f}x"
            axes.text(right, place, ratio, va="center", fontsize=6.5)
        names = [
            title(s["method"])
            + (f",\n{s['variant']}" if s["variant"] else "")
            + (f" {100 * s['fraction']:g} %" if many and s["fraction"] is not None else "")
            for s in steps
        ]
        axes.set_yticks(range(len(steps)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.12 * max(s["step_ms"] for s in steps))
        axes.set_xlabel("time of a training step (ms)")
        handles: list[Any] = [Patch(color=colour, label=part) for part, colour in PARTS.items()]
        handles.append(Line2D([], [], color="black", marker="|", linestyle="none", markersize=7, label="FLOP limit"))
        figure.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=5, frameon=False, handlelength=1.0,
            columnspacing=0.8, handletextpad=0.3, borderaxespad=0.2,
        )  # fmt: skip
        figure.text(0.02, 0.03 / height, caption, fontsize=5.3, color="#444444", va="bottom")
        return [save(figure, folder, f"speed.{kind}", kind) for kind in ("png", "svg")]

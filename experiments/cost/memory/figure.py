"""Bytes of a step by category and method, without and with checkpointing, as stacked bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from smt_bench.evidence.words import title
from smt_bench.report.canvas import STYLE, WIDTH, save

# Okabe-Ito, in the order of the stack.
PARTS = {
    "parameters": ("parameters", "#000000"),
    "gradients": ("gradients", "#D55E00"),
    "optimizer_state": ("optimizer", "#E69F00"),
    "saved_activations": ("activations", "#0072B2"),
    "logits_loss": ("logits, loss", "#56B4E9"),
    "other": ("other", "#999999"),
}


def memory_figure(rows: Sequence[dict[str, Any]], folder: Path, caption: str) -> list[Path]:
    """Draws `memory.png` and `memory.svg`: peaks of every stage.

    Args:
        rows: of `memory_rows`.
        folder: where the files go.
        caption: what was measured; printed below in small type.
    """
    shown = [r for r in rows if r["peak"] is not None]
    kinds = [kind for kind in (0, 1) if any(r["checkpointing"] == kind for r in shown)]
    panels = [[r for r in shown if r["checkpointing"] == kind] for kind in kinds]
    below = 0.43 + 0.1 * (caption.count("\n") + 1)
    bars = [0.2 * len(panel) + 0.3 for panel in panels]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, below + sum(bars) + 0.45))
        height = figure.get_figheight()
        top = height - 0.4
        widest = max(r["peak"] for r in shown) / 1e6
        for number, (kind, panel, tall) in enumerate(zip(kinds, panels, bars), start=1):
            axes = figure.add_axes((0.3, (top - tall + 0.12) / height, 0.64, (tall - 0.25) / height))
            top -= tall
            for place, row in enumerate(panel):
                left = 0.0
                row = {**row, "optimizer_state": row["optimizer_state"] + row["master_copies"]}
                row["other"] = row["method_state"] + row["temporaries"]
                for name, (_, colour) in PARTS.items():
                    axes.barh(place, row[name] / 1e6, left=left, height=0.7, color=colour, linewidth=0)
                    left += row[name] / 1e6
                axes.text(left, place, f" {left:,.0f}", va="center", fontsize=5.5)
            axes.set_yticks(range(len(panel)), [_name(row) for row in panel], fontsize=5.5)
            axes.invert_yaxis()
            axes.set_xlim(0, 1.12 * widest)
            axes.set_title("checkpointing" if kind else "no checkpointing", fontsize=6.5, loc="left", pad=2)
            if number == len(panels):
                axes.set_xlabel("peak of a training step (MB)")
            else:
                axes.set_xticklabels([])
        figure.legend(
            handles=[Patch(color=colour, label=label) for label, colour in PARTS.values()], loc="upper center",
            bbox_to_anchor=(0.5, 1.0), ncols=6, frameon=False, handlelength=0.8, columnspacing=0.6, handletextpad=0.3,
            borderaxespad=0.2, fontsize=6,
        )  # fmt: skip
        figure.text(0.02, 0.03 / height, caption, fontsize=5.3, color="#444444", va="bottom")
        return [save(figure, folder, f"memory.{kind}", kind) for kind in ("png", "svg")]


def _name(row: dict[str, Any]) -> str:
    stage = ", warm-up" if row["stage"] == "warmup" else ""
    return ", ".join(part for part in (title(row["method"]), row["variant"]) if part) + stage

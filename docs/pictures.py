"""README's two pictures: what trains under LoRA, SMT and SpIEL, and accuracy as printed beside accuracy as measured here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from smt_bench.evidence.words import title as titled
from smt_bench.report.canvas import fraction_axis, look

ROOT = Path(__file__).resolve().parents[1]
PAPER, OURS = ROOT / "results" / "paper", ROOT / "results" / "reference"
MODEL, PRINTED = "tiny", "llama-7b"  # ours, and the paper's, in the picture
METHODS = ("lora", "dora", "spiel", "smt")
GREY = "#E6E6E6"


def methods_picture() -> Figure:
    """One weight matrix under LoRA, SMT and SpIEL; what trains is coloured."""
    side, chance = 24, np.random.default_rng(1)
    figure = Figure((6.0, 1.9))
    widths = [2 * side + 8, side + 14, side + 14]
    panels = figure.subplots(1, 3, width_ratios=widths)
    for axes, width, name, title, says in zip(
        panels,
        widths,
        ("lora", "smt", "spiel"),
        ("LoRA", "SMT", "SpIEL"),
        (
            "two thin matrices beside W",
            "square blocks of W,\nchosen by their gradients",
            "single weights of W,\ndropped and grown",
        ),
    ):
        colour = look(name, METHODS)[0]
        axes.add_patch(Rectangle((0, 0), side, side, facecolor=GREY, edgecolor="#888888", linewidth=0.6))
        if name == "lora":
            axes.add_patch(Rectangle((side + 3, 0), 2, side, facecolor=colour))
            axes.add_patch(Rectangle((side + 6, side - 2), side, 2, facecolor=colour))
            axes.text(side + 4, -1.5, "B", ha="center", va="top")
            axes.text(side * 1.5 + 6, side - 3, "A", ha="center", va="top")
        else:
            size = 4 if name == "smt" else 1
            cells = (side // size) ** 2
            for cell in chance.choice(cells, 5 if name == "smt" else 48, replace=False):
                row, column = divmod(int(cell), side // size)
                axes.add_patch(
                    Rectangle(
                        (column * size, row * size), size, size, facecolor=colour, edgecolor="white", linewidth=0.5
                    )
                )
        axes.text(side / 2, -1.5, "W", ha="center", va="top")
        axes.set_title(title, fontsize=9, color="black", loc="left")
        axes.text(0, -6, says, ha="left", va="top")
        axes.set(xlim=(-1, width - 1), ylim=(-12, side + 1), aspect="equal")
        axes.axis("off")
    figure.subplots_adjust(0.01, 0.0, 0.99, 0.88, 0.02)
    return figure


def paper_and_ours() -> Figure:
    """Accuracy against trainable fraction: as printed, and as measured here with intervals."""
    figure = Figure((7.2, 2.7))
    left, middle, right = figure.subplots(1, 3)
    printed = pd.read_csv(PAPER / "smt_table3_plateau.csv").query("model == @PRINTED")
    full = pd.read_csv(PAPER / "smt_table2_commonsense.csv").query("model == @PRINTED and method == 'full'")
    printed = printed.rename(columns={"params_pct": "fraction_pct", "avg": "accuracy"}).assign(ci95=np.nan)
    _panel(left, printed, float(full["avg"].iloc[0]), f"Printed: {PRINTED}, table 3")
    for axes, folder, words in ((middle, "", "recipe's rates"), (right, "tuned", "tuned")):
        ours = pd.read_csv(OURS / "plateau" / MODEL / folder / "table3.csv")
        whole = float(ours.query("method == 'full'")["accuracy"].iloc[0])
        _panel(axes, ours[ours["fraction_pct"].notna()], whole, f"Ours: {MODEL}, {words}")
    middle.sharey(right)
    left.set_ylabel("accuracy (%)")
    seeds, items = int(ours["n_seeds"].max()), int(ours["n_examples"].max())
    note = f"Printed: single runs. Ours: {seeds} seeds, {items} test items, bars: 95 % over seeds."
    figure.text(0.01, 0.01, note, fontsize=6, color="#555555")
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.04),
        ncols=len(METHODS) + 1,
        frameon=False,
    )
    figure.subplots_adjust(0.06, 0.3, 0.99, 0.92, 0.25)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, full: float, title: str) -> None:
    spots = fraction_axis(axes, sorted(rows["fraction_pct"].unique()))
    for place, method in enumerate(METHODS):
        of = rows[rows["method"] == method].sort_values("fraction_pct")
        colour, marker = look(method, METHODS)
        x = [spots[f] + 0.012 * (place - 1.5) for f in of["fraction_pct"]]
        bars = of["ci95"] if of["ci95"].notna().any() else None
        axes.errorbar(
            x,
            of["accuracy"],
            bars,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            capsize=1.5,
            label=titled(method),
        )
    axes.axhline(full, color="black", linewidth=1, label="full fine-tuning")
    axes.set_xlabel("trainable (% of the model), log scale")
    axes.tick_params(axis="x", labelsize=5.5)
    axes.set_title(title, fontsize=8, loc="left")
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    axes.set_axisbelow(True)

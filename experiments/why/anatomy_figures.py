"""Figures 4 and 5 as pictures, from records' blocks (experiment `anatomy`)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from smt_bench.evidence.cells import Group
from smt_bench.evidence.words import percent
from smt_bench.experiments.why.projections import LOOKS, blank, handles, place
from smt_bench.records.store import Record
from smt_bench.report import notes
from smt_bench.report.canvas import STYLE, lay_out, save

NAMES = ("Q", "K", "V")


def counts(record: Record) -> dict[tuple[int, str], int]:
    """Blocks per (layer, projection) of one run; matrices without blocks are left out."""
    spots = {place(matrix): len(blocks) for matrix, blocks in record["method"]["blocks"].items() if blocks}
    return {spot: n for spot, n in spots.items() if spot is not None}


def shares_of(record: Record) -> dict[str, float]:
    """The share of each projection in one run's blocks (%)."""
    found = counts(record)
    total = sum(found.values())
    return {name: 100 * sum(n for (_, p), n in found.items() if p == name) / total for name in NAMES}


def draw_shares(data: Sequence[dict[str, Any]], runs: Sequence[Sequence[dict[str, float]]], folder: Path) -> list[Path]:
    """Figure 5: the share of each projection, by fraction.

    Seeds are points: a t-interval of a few shares would pass 0 and 100 %.

    Args:
        data: as in the table's CSV.
        runs: by line of it, the shares of every seed.
        folder: for the files.
    """
    several = all(line["n_seeds"] > 1 for line in data)
    spread = ", each a point; bars: their mean" if several else ""
    with matplotlib.rc_context(STYLE):
        caption = textwrap.wrap(
            f"{notes.seeds([line['n_seeds'] for line in data])}{spread}. Dashes: share of a random choice.",
            78,
        )
        figure = blank(caption)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        for i, name in enumerate(NAMES):
            key, (colour, _) = f"share_{name.lower()}", LOOKS[name]
            spots = np.arange(len(data)) + 0.27 * (i - 1)
            axes.bar(spots, [line[key] for line in data], 0.24, color=colour)
            if several:
                for spot, shares in zip(spots, runs):
                    beside = 0.05 * (np.arange(len(shares)) - (len(shares) - 1) / 2)
                    axes.scatter(
                        spot + beside, [s[name] for s in shares], 5, "white", edgecolors="black", linewidths=0.6,
                        clip_on=False, zorder=3,
                    )  # fmt: skip
            if data[0][f"random_{name.lower()}"] is not None:
                share = data[0][f"random_{name.lower()}"]
                axes.hlines(
                    [share] * len(spots),
                    spots - 0.13,
                    spots + 0.13,
                    color="black",
                    linewidth=0.9,
                    linestyle=(0, (2, 1)),
                )
        axes.set_xticks(range(len(data)), [f"{line['fraction_pct']:g}" for line in data])
        axes.set_ylim(0, 100)
        axes.set_xlabel("trainable parameters (% of the model)")
        axes.set_ylabel("share of the chosen blocks (%)")
        axes.tick_params(width=0.6, length=2.5)
        legend = handles(NAMES)
        for entry in legend:
            entry.set(linewidth=0, marker="s")
        lay_out(figure, axes, legend, caption, [])
        return [save(figure, folder, f"figure5.{kind}", kind) for kind in ("png", "svg")]


def draw_map(cells: Sequence[Group], layers: int, sizes: tuple[int, dict[str, int]] | None, folder: Path) -> list[Path]:
    """Figure 4: per matrix the share of its blocks that train (mean over seeds); white where no seed put a block."""
    grids = []
    for g in cells:
        side = g.done[0]["method"]["block_size"]  # of a channel: height and width
        numbers = math.prod(side) if isinstance(side, list) else side**2
        grid = np.zeros((len(NAMES), layers))
        for record in g.done:
            for (layer, name), n in counts(record).items():
                whole = sizes[1][name] / numbers if sizes else 1
                grid[NAMES.index(name), layer] += n / whole / len(g.done)
        grids.append(np.where(grid > 0, 100 * grid if sizes else grid, np.nan))
    with matplotlib.rc_context(STYLE):
        what = "% of the blocks of its matrix that train" if sizes else "blocks that train"
        caption = textwrap.wrap(
            f"Colour: {what}, mean over {notes.seeds([len(g.done) for g in cells])}; white: no seed put a block there.",
            78,
        )
        height = 0.42 + 0.5 * len(cells)
        figure = blank(caption, height)
        total = figure.get_size_inches()[1]
        top = max(float(np.nanmax(grid)) for grid in grids)
        for i, (g, grid) in enumerate(zip(cells, grids)):
            bottom = total - 0.1 - 0.5 * (i + 1) + 0.08
            axes = figure.add_axes((0.19, bottom / total, 0.62, 0.4 / total))
            image = axes.imshow(grid, aspect="auto", cmap="cividis_r", vmin=0, vmax=top, interpolation="nearest")
            axes.set_yticks(range(len(NAMES)), NAMES)
            axes.set_ylabel(percent(g.fraction_pct or 0), rotation=0, ha="right", va="center", labelpad=9)
            axes.tick_params(length=0)
            axes.spines[["top", "right"]].set_visible(True)
            axes.set_xticks([] if i < len(cells) - 1 else range(0, layers, max(1, round(layers / 6))))
        axes.set_xlabel("layer")
        bar = figure.colorbar(image, cax=figure.add_axes((0.84, bottom / total, 0.025, (total - 0.1 - bottom) / total)))
        bar.set_label("%" if sizes else "blocks", rotation=0, labelpad=4)
        bar.outline.set_linewidth(0.6)
        figure.text(
            0.02, 0.03 / total, "\n".join(caption), fontsize=5.3, color="#444444", va="bottom", linespacing=1.25
        )
        return [save(figure, folder, f"figure4.{kind}", kind) for kind in ("png", "svg")]

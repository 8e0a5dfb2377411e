"""Q, K and V by layer: names of matrices taken apart, and how the three look in figures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from smt_bench.methods.roles import role
from smt_bench.report.canvas import HEIGHT, WIDTH

PROJECTIONS = {"q_proj": "Q", "k_proj": "K", "v_proj": "V"}
# Okabe-Ito, told apart by the marker as well.
LOOKS = {"Q": ("#0072B2", "^"), "K": ("#009E73", "s"), "V": ("#D55E00", "o")}


def place(matrix: str) -> tuple[int, str] | None:
    """Layer and projection of a matrix, e.g. (3, "V") of "model.layers.3.self_attn.v_proj"; None for others."""
    path = matrix.removesuffix(".weight")
    numbers, what = [int(part) for part in path.split(".") if part.isdigit()], role(path)
    return (numbers[0], PROJECTIONS[what]) if numbers and what in PROJECTIONS else None


def handles(names: Sequence[str]) -> list[Line2D]:
    """Legend entries."""
    return [
        Line2D([], [], color=LOOKS[n][0], marker=LOOKS[n][1], markersize=3.6, linewidth=1.1, label=n) for n in names
    ]


def blank(caption: Sequence[str], height: float = HEIGHT) -> Figure:
    """A figure of column width with room for a caption."""
    return Figure(figsize=(WIDTH, height + 0.11 * len(caption)))

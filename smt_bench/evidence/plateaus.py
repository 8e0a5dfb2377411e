"""Does a method go on gaining with its trainable fraction, or has it reached a plateau? Per method, not by which cell is highest.

Two numbers: the slope of the least-squares line through its cells over log2 of the fraction, i.e. the gain per doubling; and
the last step, its largest fraction minus the one before. A plateau is a last step within the margin, not one that cannot be told.
All methods are looked at, whatever the paper says of them, so that this is exploratory: its claims are judged as claims.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smt_bench.evidence.cells import Group, common_tasks
from smt_bench.evidence.decisions import AHEAD, BEHIND, OPEN, WITHIN, Decision, benjamini_hochberg, decide, margins
from smt_bench.evidence.interval import Estimate, contrast

WORDS = {AHEAD: "still gains", WITHIN: "plateau", BEHIND: "loses"}


@dataclass(frozen=True)
class Plateau:
    """What is said of one method; everything is turned so that positive is better.

    Attributes:
        method: its name.
        cells: its cells with numbers, by fraction; two at least.
        slope: gain per doubling of the fraction (points, or nats per token).
        slope_decision: on it, corrected over the methods.
        step: the last step.
        step_decision: on it, corrected over the methods.
    """

    method: str
    cells: tuple[Group, ...]
    slope: Estimate
    slope_decision: Decision
    step: Estimate
    step_decision: Decision

    @property
    def verdict(self) -> str:
        """Of the last step, in a word or two."""
        d = self.step_decision
        return WORDS.get(d.zone, f"{OPEN} ({d.why})" if d.why else OPEN)


def plateaus(found: Sequence[Group], heldout: bool = False) -> list[Plateau]:
    """Every method with numbers at two fractions or more, in the order of the cells; on accuracy or on held-out NLL."""
    tasks = common_tasks(found)
    estimates: list[tuple[str, tuple[Group, ...], Estimate, Estimate]] = []
    sources: list[int | None] = []
    for method in dict.fromkeys(g.method for g in found):
        sized = [(_fraction(g), g) for g in found if g.method == method and g.fraction is not None and g.done]
        own = [(f, g, g.answers.nll_side if heldout else g.answers.side(tasks)) for f, g in sized]
        known = [(f, g, side) for f, g, side in sorted(own, key=lambda cell: cell[0]) if side is not None]
        if len(known) < 2 or known[0][0] == known[-1][0]:
            continue
        x = np.log2([f for f, *_ in known])
        weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
        sign = -1.0 if heldout else 1.0
        slope = contrast([(sign * float(w), side) for w, (*_, side) in zip(weights, known)])
        step = contrast([(sign, known[-1][2]), (-sign, known[-2][2])])
        estimates.append((method, tuple(g for _, g, _ in known), slope, step))
        sources.append(known[0][2].items.stratum_G.size)
    margin = margins().nats if heldout else margins().points
    slopes = decide([e[2] for e in estimates], margin, benjamini_hochberg, sources=sources)
    steps = decide([e[3] for e in estimates], margin, benjamini_hochberg, sources=sources)
    return [
        Plateau(method, cells, slope, s, step, t)
        for (method, cells, slope, step), s, t in zip(estimates, slopes, steps)
    ]


def _fraction(group: Group) -> float:
    """What it came to where that is known, else what was asked for."""
    found = group.capacity.get("fraction") or group.fraction
    assert found is not None and math.isfinite(found)
    return float(found)

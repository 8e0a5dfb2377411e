"""What runs say item by item: whether seeds answer the same items rightly, and whether a model is as sure as it is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smt_bench.evidence.cells import Group

BINS = 15  # of confidence


def agreement(right_SN: NDArray[Any]) -> tuple[float, float | None]:
    """How often two runs are both right or both wrong on an item, and Fleiss' kappa: the same beyond chance.

    Args:
        right_SN: 0 or 1 by run and item; two runs at least.

    Returns:
        A share, and kappa (1: seeds always agree, 0: as by chance); None where all answers are right or all wrong.
    """
    runs = len(right_SN)
    assert runs > 1, "one run agrees with itself"
    count_N = right_SN.sum(axis=0, dtype=float)
    pairs = count_N * (count_N - 1) + (runs - count_N) * (runs - count_N - 1)
    share = float((pairs / (runs * (runs - 1))).mean())
    p = float(right_SN.mean())
    chance = p**2 + (1 - p) ** 2
    return share, None if chance == 1 else (share - chance) / (1 - chance)


def calibration_error(confidence: NDArray[np.float64], right: NDArray[Any]) -> float:
    """Expected calibration error: mean gap between how sure a model is and how often it is right, over `BINS` equal bins.

    Source: Guo et al. (2017), equation 3. Upwards biased on few items.
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / confidence.size)


def summary(group: Group, tasks: Sequence[str]) -> dict[str, float | None]:
    """Of one cell's runs, over the items of all tasks together: agreement of seeds and, where records have it, calibration.

    Returns:
        `agreement`, `kappa`, `always_right`, `never_right` (shares; None with one seed), `ece` and `brier` (means over
        seeds; None where a record lacks what they need).
    """
    made: dict[str, float | None] = dict.fromkeys(("agreement", "kappa", "always_right", "never_right", "ece", "brier"))
    if not group.done or not tasks:
        return made
    right_SN = np.hstack([group.answers.right(t) == 1 for t in tasks]).astype(int)  # not half right
    if len(right_SN) > 1:
        made["agreement"], made["kappa"] = agreement(right_SN)
        made["always_right"] = float(right_SN.all(axis=0).mean())
        made["never_right"] = float((~right_SN.any(axis=0)).mean())
    sure = [_column(r, tasks, "confidence") for r in group.done]
    squares = [_column(r, tasks, "brier") for r in group.done]
    known = [(c, b, right) for c, b, right in zip(sure, squares, right_SN) if c is not None and b is not None]
    if len(known) == len(group.done):
        made["ece"] = float(np.mean([calibration_error(c, right) for c, _, right in known]))
        made["brier"] = float(np.mean([b.mean() for _, b, _ in known]))
    return made


def _column(record: dict[str, Any], tasks: Sequence[str], name: str) -> NDArray[np.float64] | None:
    parts = [record["evaluation"][t]["examples"].get(name) for t in tasks]
    if any(part is None or None in part for part in parts):
        return None
    return np.concatenate([np.asarray(part, dtype=float) for part in parts])

"""Numbers with a plain interval over seeds, and rank correlations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from smt_bench.evidence.interval import Estimate, mean_of, spread

Values = Sequence[float] | NDArray[np.float64]


def mean_ci(values: Values) -> tuple[float, float | None]:
    """Mean and half-width of the 95 % Student-t interval; None where there is no spread: a single value, or equal ones.

    Raises:
        ValueError: no values.
    """
    found = mean_of(values)
    return found.value, found.half()


def one_more(values: Values, items_variance: float = 0.0) -> float | None:
    """Half-width of the 95 % interval around the mean of `values` for the result of one more run: t s sqrt(1 + 1 / S).

    What a printed single run is set against. The new run is a draw of the same question: on the same test items what they do
    to it is in s already; on others their variance comes on top, once for either side.

    Args:
        values: one per seed.
        items_variance: of a run's value over new items, where the other run has other items.

    Returns:
        None where there is no spread to judge by.
    """
    x = np.asarray(values, dtype=float)
    variance = spread(x)
    if variance <= 0:
        return None
    quantile = float(stdtrit(x.size - 1, 0.975))
    return quantile * math.sqrt(variance * (1 + 1 / x.size) + 2 * items_variance)


def rank_correlation(score: Values, benefit: Values) -> float:
    """Spearman's; ties share their mean rank, and a score without any spread has correlation 0: it predicts nothing."""
    from scipy.stats import rankdata  # takes a third of a second to import, and most tables rank nothing

    a, b = (rankdata(np.asarray(v, dtype=float)) for v in (score, benefit))
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def fisher_z(rho: float) -> float:
    """Fisher's transformation of a correlation, in which means and differences over seeds are taken; ±1 is kept finite."""
    return math.atanh(max(-1 + 1e-9, min(1 - 1e-9, rho)))


def over_items_z(items: int) -> float | None:
    """Standard error of Fisher's z of Spearman's correlation over the items of one sample (Fieller et al. 1957)."""
    return math.sqrt(1.06 / (items - 3)) if items > 3 else None


def mean_correlation(values: Sequence[float]) -> tuple[float, tuple[float, float] | None, Estimate]:
    """Mean of correlations by Fisher's z: back-transformed, with its 95 % interval over seeds, and the estimate in z."""
    found = mean_of([fisher_z(v) for v in values])
    interval = found.interval()
    return math.tanh(found.value), None if interval is None else (math.tanh(interval[0]), math.tanh(interval[1])), found

"""Statistics on plain numbers: intervals over seeds and paired bootstraps over examples.

All intervals are two-sided 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Values = Sequence[float] | NDArray[np.float64]
RESAMPLES = 10_000
_TAILS = (2.5, 97.5)
_AT_ONCE = 4_000_000  # numbers held in memory during a bootstrap


def mean_ci(values: Values) -> tuple[float, float | None]:
    """Mean and half-width of the 95 % Student-t interval; None where a single value has no spread.

    Raises:
        ValueError: no values.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise ValueError("mean of no values: leave the cell blank instead")
    # Sorted, so that the last digit of the sum does not depend on the order of the seeds.
    x = np.sort(x)
    if x.size == 1:
        return float(x[0]), None
    quantile = float(stdtrit(x.size - 1, 0.975))
    return float(x.mean()), float(quantile * x.std(ddof=1) / np.sqrt(x.size))


def macro_stderr(correct: Mapping[str, Values]) -> float:
    """Standard error over examples of the mean of the tasks' accuracies.

    With 0 or 1 per example this is the binomial sqrt(p (1 - p) / n) of every task, combined. Where several seeds
    answered the same examples, pass each example's mean over seeds: examples, not answers, are what was sampled.
    """
    variances = [np.var(np.asarray(x, dtype=float)) / len(x) for x in correct.values()]
    return float(np.sqrt(sum(variances)) / len(variances))


def ratio_stderr(parts: Values, weights: Values) -> float | None:
    """Standard error over examples of sum(parts) / sum(weights), e.g. nats per token; None below two examples."""
    p, w = np.asarray(parts, dtype=float), np.asarray(weights, dtype=float)
    if p.size < 2:
        return None
    residuals = p - w * (p.sum() / w.sum())
    return float(np.sqrt((residuals**2).sum() * p.size / (p.size - 1)) / w.sum())


def paired_bootstrap(
    correct_a: Values | Mapping[str, Values],
    correct_b: Values | Mapping[str, Values],
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, float]:
    """Accuracy of A minus accuracy of B on the same examples, with a percentile interval.

    Examples are paired by position and resampled within their task; tasks count the same however large they are.

    Args:
        correct_a: 0 or 1 per example (or its mean over seeds); by task where there are several.
        correct_b: the same examples in the same order.
        seed: of the resampling.
        resamples: bootstrap samples.

    Returns:
        `difference`, `low`, `high` (all in the units given) and `n`, the number of examples.

    Raises:
        ValueError: no examples, or the two sides do not match.
    """
    a = dict(correct_a) if isinstance(correct_a, Mapping) else {"": correct_a}
    b = dict(correct_b) if isinstance(correct_b, Mapping) else {"": correct_b}
    if a.keys() != b.keys() or not a:
        raise ValueError(f"paired bootstrap of tasks {', '.join(a)} against {', '.join(b)}: compare the same tasks")
    rng = np.random.default_rng(seed)
    observed, drawn, examples = 0.0, np.zeros(resamples), 0
    for task in sorted(a):
        x, y = np.asarray(a[task], dtype=float), np.asarray(b[task], dtype=float)
        if x.shape != y.shape or x.size == 0:
            raise ValueError(f"paired bootstrap of {x.size} against {y.size} examples: compare the same examples")
        # Differences take few distinct values, and a resample only matters through how often it drew each of them: its
        # counts are multinomial, exactly as if examples had been drawn one by one, at a fraction of the time.
        values, counts = np.unique(np.round(x - y, 12), return_counts=True)
        observed += float((x - y).mean())
        examples += x.size
        for part in _chunks(resamples, values.size):
            drawn[part] += rng.multinomial(x.size, counts / x.size, size=part.stop - part.start) @ values / x.size
    return {**_interval(observed / len(a), drawn / len(a)), "n": examples}


def paired_bootstrap_ratio(
    parts_a: Values, parts_b: Values, weights: Values, seed: int, resamples: int = RESAMPLES
) -> dict[str, float]:
    """The same for sum(parts) / sum(weights): nats per token of A minus those of B on the same held-out examples.

    Args:
        parts_a: per example, e.g. its negative log-likelihood (nats).
        parts_b: the same examples in the same order.
        weights: per example, e.g. its response tokens.
        seed: of the resampling.
        resamples: bootstrap samples.

    Raises:
        ValueError: no examples, or the two sides do not match.
    """
    x, y, w = (np.asarray(v, dtype=float) for v in (parts_a, parts_b, weights))
    if not x.shape == y.shape == w.shape or x.size == 0:
        raise ValueError(f"paired bootstrap of {x.size} against {y.size} examples: compare the same examples")
    rng = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for part in _chunks(resamples, x.size):
        picked = rng.integers(x.size, size=(part.stop - part.start, x.size))
        drawn[part] = (x - y)[picked].sum(axis=1) / w[picked].sum(axis=1)
    return {**_interval(float((x - y).sum() / w.sum()), drawn), "n": x.size}


def rank_correlations(
    scores: Mapping[str, Values], benefit: Values, seed: int, resamples: int = RESAMPLES
) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Spearman's rank correlation of several scores with one benefit, and its bootstrap over the items.

    All scores see the same resamples, so that differences between them are paired. Ties share their mean rank; a score
    without any spread has correlation 0: it predicts nothing.

    Args:
        scores: by name, one value per item.
        benefit: one value per item.
        seed: of the resampling.
        resamples: bootstrap samples.

    Returns:
        By name the correlation and its `resamples` bootstrap values.
    """
    y = np.asarray(benefit, dtype=float)
    picked = np.random.default_rng(seed).integers(y.size, size=(resamples, y.size))
    found = {}
    for name, values in scores.items():
        x = np.asarray(values, dtype=float)
        observed = _spearman(x[None], y[None])[0]
        found[name] = (float(observed), _spearman(x[picked], y[picked]))
    return found


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata  # takes a third of a second to import, and most tables rank nothing

    a, b = (rankdata(v, axis=1) for v in (x, y))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    found: NDArray[np.float64] = np.divide((a * b).sum(axis=1), scale, out=np.zeros_like(scale), where=scale > 0)
    return found


def _chunks(total: int, width: int) -> list[slice]:
    rows = max(1, _AT_ONCE // max(1, width))
    return [slice(start, min(start + rows, total)) for start in range(0, total, rows)]


def _interval(observed: float, drawn: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.percentile(drawn, _TAILS)
    return {"difference": observed, "low": float(low), "high": float(high)}

"""One interval for a mean, a difference or a slope of cells whose runs (seeds) all answered the same items.

A paper's claim is about new seeds and new items at once. With y_ksi the answer of cell k's run of seed s to item i, the model is
two-way, with items shared by all cells:

    y_ksi = mu_k + seed_ks + item_ki + rest_ksi,     items of one source (fact, passage, twin) dependent, sources not.

For the contrast D = sum_k c_k mean_s(value_ks), each run's value being a mean over items, S_k the seeds of cell k:

    Var(D) = sum_k c_k^2 s_k^2 / S_k  +  V_cluster  -  sum_k c_k^2 V_rest,k / S_k,    never below V_cluster

- s_k^2, the variance over seeds of the runs' values, estimates seed variance + rest variance / items (the items are the same).
- V_cluster, the cluster-robust variance over items of sum_k c_k mean_s(y_ksi), seeds being averaged first, estimates item
  variance + sum_k c_k^2 rest variance / (S_k items): both contain the rest.
- V_rest,k estimates that rest / items: the cluster-robust variance over items of the residuals r_si = y_si - mean_s - mean_i +
  mean, divided by S_k - 1; taken off once, the rest counts once, as it does in Var(D).

Items enter through their linearised influence on a run's value u_si, added up within clusters: for accuracies (y - mean of the
task) / (items of the task x tasks), tasks being strata of equal weight; for a ratio such as nats per token (p - w R) / sum(w), R
being the run's ratio. A stratum's sum of squares is multiplied by G / (G - 1), G its clusters. Degrees of freedom are
Satterthwaite's over all these parts. Seeds are not paired: runs of one seed number share nothing that shows in their values here.

The maximum keeps a chance difference of two noisy seed variances from making an interval narrower than the items alone allow.
Where V_cluster is the maximum, the degrees of freedom are its own: with the seeds' kept in, as the formula read literally has it,
coverage is up to 98.6 % at three seeds of small spread. `evidence.benchmark` shows the coverage of what is here.

Where all items agree (all right, all wrong) sums of squares are 0 and know nothing: V_cluster of an accuracy is never less than
what two items that flip would make it (spread evenly over the tasks), one each way, as Bonett and Price (2012) add for paired and
Agresti and Coull (1998) for single proportions. As a least value it leaves intervals away from the edge as they are; at the edge
they are on the safe side, and no width is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from smt_bench.evidence.sides import Array, Side

ROUNDING = 1e-12  # relative: values closer than this are equal


@dataclass(frozen=True)
class Parts:
    """What a variance is made of, and so what it would be with more seeds.

    Attributes:
        per_seed: what falls with the seeds: variance over one seed each, added up over cells with the squares of their
            coefficients.
        items: what does not.
        items_df: degrees of freedom of the latter; infinite where there are no items.
        cells: cells that are trained.
    """

    per_seed: float
    items: float
    items_df: float
    cells: int

    def at(self, seeds: int) -> tuple[float, float]:
        """Standard error and degrees of freedom with so many seeds in every cell."""
        by_seed = self.per_seed / seeds
        variance = by_seed + self.items
        df_seeds = max(1, self.cells) * (seeds - 1)
        spread = (by_seed**2 / df_seeds if df_seeds else math.inf) + self.items**2 / self.items_df
        return math.sqrt(variance), variance**2 / spread if spread > 0 else self.items_df

    def with_items(self, times: float) -> Parts:
        """With so many times the items."""
        return replace(self, items=self.items / times, items_df=self.items_df * times)


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error.

    Attributes:
        value: in its units.
        se: standard error over new seeds and new items; None where it cannot be known (one seed, one cluster).
        df: degrees of freedom.
        seeds: the fewest behind a cell that is trained; None where nothing is.
        parts: of the variance; None where there is no standard error.
    """

    value: float
    se: float | None
    df: float
    seeds: int | None = None
    parts: Parts | None = None

    def half(self, level: float = 0.95) -> float | None:
        """Half-width of the two-sided interval; None where there is none."""
        return None if self.se is None else float(stdtrit(self.df, (1 + level) / 2)) * self.se

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Its ends; None where there is none."""
        half = self.half(level)
        return None if half is None else (self.value - half, self.value + half)

    def p_below(self, bound: float = 0.0) -> float:
        """One-sided p value of "the truth is at most `bound`"; 1 where there is no standard error."""
        return 1.0 if self.se is None else float(stdtr(self.df, (bound - self.value) / self.se))

    def p_above(self, bound: float = 0.0) -> float:
        """The same for "at least"."""
        return 1.0 if self.se is None else float(stdtr(self.df, (self.value - bound) / self.se))

    def turned(self) -> Estimate:
        """With the other sign."""
        return replace(self, value=-self.value)


def contrast(terms: Sequence[tuple[float, Side]]) -> Estimate:
    """sum_k c_k mean(value of cell k), with its standard error over new seeds and new items, as above.

    Args:
        terms: coefficients with their cells; all answered the same items.

    Raises:
        ValueError: they did not.
    """
    first = terms[0][1].items
    if not all(side.items.same(first) for _, side in terms):
        raise ValueError("a contrast of cells with other items: compare the same examples")
    # Sorted, so that the last digit does not depend on the order of the seeds.
    value = float(sum(c * np.sort(side.value_S).mean() for c, side in terms))
    trained = [(c, side) for c, side in terms if not side.fixed]
    seeds = min((side.value_S.size for _, side in trained), default=None)
    over_T, sizes_T = _over_items(terms), first.sizes_T
    if (seeds is not None and seeds < 2) or sizes_T.min() < 2:
        return Estimate(value, None, math.nan, seeds=seeds)
    by_seed = [
        (c**2 * float(np.var(np.sort(s.value_S), ddof=1)) / s.value_S.size, s.value_S.size - 1) for c, s in trained
    ]
    rests = [(c**2 * _rest(side) / side.value_S.size, side.value_S.size - 1) for c, side in trained]
    clusters = int(sizes_T.sum() - sizes_T.size)
    items, item_spread = float(over_T.sum()), float((over_T**2 / (sizes_T - 1)).sum())
    least = _flips(terms)
    if items < least:
        items, item_spread = least, least**2 / clusters
    seed_part, rest = sum(v for v, _ in by_seed), sum(v for v, _ in rests)
    variance = items + max(seed_part - rest, 0.0)
    if variance <= 0:
        return Estimate(value, None, math.nan, seeds=seeds)
    spread = item_spread
    if seed_part > rest:
        spread += sum(v**2 / df for v, df in by_seed) + sum(v**2 / (df * clusters) for v, df in rests)
    # A difference of variances can be small by chance, and so would its degrees of freedom be: never fewer than those of a part.
    df = max(variance**2 / spread, min([clusters, *(df for _, df in by_seed)]))
    per_seed = max(sum(v * (n + 1) for v, n in by_seed), sum(v * (n + 1) for v, n in rests))
    parts = Parts(per_seed, max(items - rest, 0.0), float(clusters), len(trained))
    return Estimate(value, math.sqrt(variance), df, seeds, parts)


def over_items(terms: Sequence[tuple[float, Side]]) -> float | None:
    """Standard error over new items of these very runs (seeds fixed); None from fewer than two clusters."""
    if terms[0][1].items.sizes_T.min() < 2:
        return None
    variance = max(float(_over_items(terms).sum()), _flips(terms))
    return math.sqrt(variance) if variance > 0 else None


def _over_items(terms: Sequence[tuple[float, Side]]) -> Array:
    """V_cluster by stratum; where a stratum has one cluster, what there is."""
    items = terms[0][1].items
    left_G = sum((c * side.influence_SG.mean(axis=0) for c, side in terms), np.zeros(items.stratum_G.size))
    found: Array = np.bincount(items.stratum_G, left_G**2) * items.sizes_T / np.maximum(items.sizes_T - 1, 1)
    return found


def _flips(terms: Sequence[tuple[float, Side]]) -> float:
    """The least V_cluster; the larger of both signs, since a difference flips on one side."""
    return max(sum(c**2 * side.flips for c, side in terms if c * sign > 0) for sign in (1, -1))


def _rest(side: Side) -> float:
    """V_rest: what single runs' answers to items vary besides, cluster by cluster, as a variance of one run's value."""
    items = side.items
    left_SG = side.influence_SG - side.influence_SG.mean(axis=0)
    squares_G = (left_SG**2).sum(axis=0) / (len(left_SG) - 1)
    return float((np.bincount(items.stratum_G, squares_G) * items.sizes_T / (items.sizes_T - 1)).sum())


def spread(values: Sequence[float] | Array) -> float:
    """Variance of values; 0 of a single one, and of those that differ by rounding alone (one sum in two orders)."""
    x = np.asarray(values, dtype=float)
    if x.size < 2 or np.ptp(x) <= ROUNDING * np.abs(x).max():
        return 0.0
    return float(x.var(ddof=1))


def mean_of(values: Sequence[float] | Array) -> Estimate:
    """The mean of independent values (e.g. of seeds), with Student's t.

    Raises:
        ValueError: no values.
    """
    x = np.sort(np.asarray(values, dtype=float))
    if x.size == 0:
        raise ValueError("mean of no values: leave the cell blank instead")
    variance = spread(x)
    if variance <= 0:  # equal values have no spread to judge by: no interval, rather than one of width 0
        return Estimate(float(x.mean()), None, x.size - 1, int(x.size))
    parts = Parts(variance, 0.0, math.inf, 1)
    return Estimate(float(x.mean()), math.sqrt(variance / x.size), x.size - 1, int(x.size), parts)

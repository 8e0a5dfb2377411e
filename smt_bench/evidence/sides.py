"""The runs of a cell as intervals need them: each run's value, and what each cluster of items does to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
FLIPS = 2  # items by which an accuracy could always be off


@dataclass(frozen=True)
class Items:
    """How items hang together.

    Attributes:
        cluster_N: number of each item's cluster, 0 to G - 1; a cluster lies within one stratum.
        stratum_G: number of each cluster's stratum, 0 to T - 1.
    """

    cluster_N: Ints
    stratum_G: Ints

    @staticmethod
    def of(sources: Sequence[Sequence[int]]) -> Items:
        """From each stratum's items, named by their sources."""
        clusters: list[Ints] = []
        strata: list[Ints] = []
        start = 0
        for number, ids in enumerate(sources):
            _, own = np.unique(np.asarray(ids), return_inverse=True)
            count = int(own.max()) + 1 if own.size else 0
            clusters.append(own.astype(np.int64) + start)
            strata.append(np.full(count, number, dtype=np.int64))
            start += count
        return Items(np.concatenate(clusters), np.concatenate(strata))

    @cached_property
    def sizes_T(self) -> Ints:
        """Clusters of each stratum."""
        return np.bincount(self.stratum_G)

    def summed(self, influence_SN: Array) -> Array:
        """Influences added up within clusters, (S, G)."""
        made = np.zeros((len(influence_SN), self.stratum_G.size))
        for row, values in zip(made, influence_SN):
            row[:] = np.bincount(self.cluster_N, values, minlength=row.size)
        return made

    def same(self, other: Items) -> bool:
        """Whether two cells were asked the same."""
        return self is other or (
            np.array_equal(self.cluster_N, other.cluster_N) and np.array_equal(self.stratum_G, other.stratum_G)
        )


@dataclass(frozen=True)
class Side:
    """The runs of one cell.

    Attributes:
        value_S: of each run, in the units of the interval.
        influence_SG: what each cluster does to it; sums to 0 within a stratum.
        items: shared by all cells that are compared.
        flips: square of what `FLIPS` items that flip do; 0 where there is no such thing.
        fixed: another run would give the same (nothing was trained).
    """

    value_S: Array
    influence_SG: Array
    items: Items
    flips: float = 0.0
    fixed: bool = False


def accuracies(correct: Sequence[NDArray[Any]], items: Items, scale: float = 100.0, fixed: bool = False) -> Side:
    """The mean over tasks of their accuracies, every task counting the same.

    Args:
        correct: by task 0 or 1, or a score between them, (S, items of the task), in the order of `items`' strata.
        items: of all tasks.
        scale: 100 for points.
        fixed: as in `Side`.
    """
    tasks = len(correct)
    means: list[Array] = [np.mean(part, axis=1, dtype=float) for part in correct]
    parts = [(part - mean[:, None]) * (scale / (part.shape[1] * tasks)) for part, mean in zip(correct, means)]
    value_S = scale * np.mean(means, axis=0)
    flips = FLIPS / tasks * sum((scale / (part.shape[1] * tasks)) ** 2 for part in correct)
    return Side(value_S, items.summed(np.hstack(parts)), items, flips, fixed)


def ratios(part_SN: Array, weight_SN: Array, items: Items, fixed: bool = False) -> Side:
    """sum(parts) / sum(weights) over items, e.g. nats per token.

    Args:
        part_SN: e.g. negative log-likelihood of every response (nats).
        weight_SN: e.g. its tokens; of data that vary with the seed every run has its own. (N) where all have the same.
        items: of one stratum.
        fixed: as in `Side`.
    """
    weight_SN = np.broadcast_to(weight_SN, part_SN.shape)
    total_S = weight_SN.sum(axis=1)
    value_S = part_SN.sum(axis=1) / total_S
    left_SN = part_SN - value_S[:, None] * weight_SN
    return Side(value_S, items.summed(left_SN / total_S[:, None]), items, 0.0, fixed)

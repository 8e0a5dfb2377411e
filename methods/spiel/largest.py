"""The largest entries of an outer product of two vectors, without the outer product.

Shapes: H rows, W columns, K pairs asked for. All in float64, in which products of float32 numbers are exact.
"""

from __future__ import annotations

import math

import torch


def largest_products(rows_H: torch.Tensor, columns_W: torch.Tensor, active_D: torch.Tensor, k: int) -> torch.Tensor:
    """The `k` flat positions with the largest r_a c_b outside `active_D`; fewer where fewer are above 0.

    A threshold that k + D pairs reach is found by bisection: how many pairs of a row reach it says a binary search in the sorted
    columns. Only these pairs are listed. Equal products go by position.

    Args:
        rows_H: r, not negative.
        columns_W: c, not negative.
        active_D: flat positions that are not to be had.
        k: how many.

    Returns:
        (at most k,) int64, largest product first.
    """
    rows_H, columns_W = rows_H.double(), columns_W.double()
    width = len(columns_W)
    falling_W, order_W = columns_W.sort(descending=True, stable=True)
    rising_W = falling_W.flip(0)

    def reach(threshold: float) -> torch.Tensor:
        """How many columns of each row reach a threshold above 0."""
        counts_H = width - torch.searchsorted(rising_W, threshold / rows_H)
        return torch.where(rows_H > 0, counts_H, 0)

    positive = int(reach(_SMALLEST).sum())
    wanted = min(k + len(active_D), positive)
    if not wanted:
        return torch.empty(0, dtype=torch.int64, device=rows_H.device)
    low, high = _SMALLEST, float(rows_H.max() * columns_W.max()) * 2  # enough reach `low`, too few `high`
    while low < (middle := math.sqrt(low) * math.sqrt(high)) < high:  # in logarithms; some 60 rounds
        if int(reach(middle).sum()) >= wanted:
            low = middle
        else:
            high = middle
    above_H, at_H = reach(high), reach(low)
    # Pairs between the two are equal: of them only as many as are wanted, row by row.
    ties_H = at_H - above_H
    before_H = ties_H.cumsum(0) - ties_H
    counts_H = above_H + (wanted - above_H.sum() - before_H).clamp(min=0).minimum(ties_H)
    row_K = torch.repeat_interleave(torch.arange(len(rows_H), device=rows_H.device), counts_H)
    first_K = torch.repeat_interleave(counts_H.cumsum(0) - counts_H, counts_H)
    column_K = order_W[torch.arange(len(row_K), device=rows_H.device) - first_K]
    found_K = (row_K * width + column_K).sort().values
    found_K = found_K[torch.isin(found_K, active_D.long(), invert=True)]
    products_K = rows_H[found_K // width] * columns_W[found_K % width]
    return found_K[products_K.sort(descending=True, stable=True).indices[:k]]


_SMALLEST = 1e-300  # below every product of float32 numbers above 0

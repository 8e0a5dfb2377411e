"""Budgets shared out in whole units: nothing lost, nobody far from the exact share, the larger never behind the smaller."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smt_bench.methods.modules import apportion
from smt_bench.methods.spiel import selection as spiel

counts = st.integers(0, 10**6)
sizes = st.dictionaries(st.text("qkv", max_size=3), st.integers(0, 10**9), min_size=1, max_size=12).filter(
    lambda found: sum(found.values()) > 0
)


@given(count=counts, sizes=sizes)
def test_spread_in_proportion(count: int, sizes: dict[str, int]) -> None:
    shares, held = apportion(count, sizes), sum(sizes.values())
    assert list(shares) == list(sizes) and sum(shares.values()) == count
    for name, share in shares.items():
        assert abs(share * held - count * sizes[name]) < held  # within one of the exact share, in whole numbers
        assert share <= sizes[name] or count > held  # no matrix is asked for more than it holds
    for a, b in combinations(sizes, 2):
        assert (shares[a] - shares[b]) * (sizes[a] - sizes[b]) >= 0
        assert sizes[a] != sizes[b] or shares[a] - shares[b] in (0, 1)  # among equals the first is served first


@given(count=counts, sizes=sizes, factor=st.integers(2, 50))
def test_only_the_ratio_of_sizes_counts(count: int, sizes: dict[str, int], factor: int) -> None:
    assert apportion(count, sizes) == apportion(count, {name: size * factor for name, size in sizes.items()})


@given(count=counts, sizes=sizes)
def test_share_out_by_parts_of_one(count: int, sizes: dict[str, int]) -> None:
    parts = {name: size / sum(sizes.values()) for name, size in sizes.items()}
    shares = apportion(count, parts)
    assert list(shares) == list(parts) and sum(shares.values()) == count
    for name, share in shares.items():
        assert share >= 0 and abs(share - count * parts[name]) < 1 + 1e-6
    for a, b in combinations(parts, 2):
        assert (shares[a] - shares[b]) * (parts[a] - parts[b]) >= 0


@given(numel=st.integers(1, 400), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_random_indices_are_a_subset_of_that_size(numel: int, share: float, seed: int) -> None:
    count = round(share * numel)
    found = spiel.random_indices(numel, count, torch.Generator().manual_seed(seed)).tolist()
    assert len(found) == count and found == sorted(set(found)) and set(found) <= set(range(numel))


@pytest.mark.parametrize(("numel", "count"), [(400, 7), (400, 100), (2**31 - 1, 60), (2**31, 60), (2**40, 60)])
def test_random_indices_by_sets(numel: int, count: int) -> None:
    """The same draws by plain sets: stored runs start from these indices."""
    generator, chosen = torch.Generator().manual_seed(5), set[int]()
    while len(chosen) < count:
        missing = count - len(chosen)
        chosen |= set(torch.randint(numel, (missing + count // 4 + 8,), generator=generator).tolist())
    order = torch.randperm(len(chosen), generator=generator).tolist()
    expected = sorted(sorted(chosen)[i] for i in order[:count])
    found = spiel.random_indices(numel, count, torch.Generator().manual_seed(5))
    assert found.tolist() == expected and found.dtype == torch.int64


@given(steps=st.integers(2, 300), every=st.integers(1, 60), phase=st.integers(1, 60))
def test_updates_of_indices_never_share_their_estimation_phases(steps: int, every: int, phase: int) -> None:
    phase = min(phase, every)  # as the config demands
    found = [t for t in range(1, steps + 1) if spiel.is_update(t, every, phase, steps)]
    assert found[:1] == [phase][: phase < steps]
    assert all(later - earlier >= phase for earlier, later in zip(found, found[1:]))
    moved = [spiel.replaced(t, 1000, 0.3, phase, steps) for t in found]
    assert moved[1:] == sorted(moved[1:], reverse=True) and all(k <= 300 for k in moved[1:])

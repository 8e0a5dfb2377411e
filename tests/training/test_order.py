"""The learning rate's ramp and the order of batches, for all lengths and sizes."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smt_bench.data.batches import POOL, training_order
from smt_bench.training.optimizer import linear_factor

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=120)
batch_sizes = st.integers(1, 9)
seeds = st.integers(0, 10**6)


@given(steps=st.integers(1, 400), data=st.data())
def test_the_ramp(steps: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, steps))
    factors = [linear_factor(step, steps, warmup) for step in range(1, steps + 1)]
    up, down = factors[:warmup], factors[warmup:]
    assert max(factors) == 1 and min(factors) > 0
    assert up == sorted(set(up)) and down == sorted(set(down), reverse=True)
    assert up[-1:] == [1][:warmup] and down[:1] == [1][: steps - warmup]
    assert factors[0] == pytest.approx(1 / (warmup or 1))
    # Two triangles, each half a step too large: the sum is what the run's mean rate follows from.
    area = (warmup + 1) / 2 * (warmup > 0) + (steps - warmup + 1) / 2 * (steps > warmup)
    assert sum(factors) == pytest.approx(area)


def epochs(lengths: list[int], batch_size: int, seed: int, count: int) -> list[list[list[int]]]:
    """The batches of so many epochs, each of which ends with a full batch."""
    each = -(-len(lengths) // batch_size)
    found = list(islice(training_order(lengths, batch_size, seed), each * count))
    return [found[start : start + each] for start in range(0, len(found), each)]


@given(lengths=lengths, batch_size=batch_sizes, seed=seeds)
def test_every_epoch_shows_every_example_in_full_batches(lengths: list[int], batch_size: int, seed: int) -> None:
    for epoch in epochs(lengths, batch_size, seed, 2):
        assert {len(batch) for batch in epoch} == {batch_size}
        seen = Counter(number for batch in epoch for number in batch)
        assert set(seen) == set(range(len(lengths)))
        assert max(seen.values()) - min(seen.values()) <= 1  # only the last batch is filled up


@given(lengths=lengths, batch_size=batch_sizes, seed=seeds)
def test_batches_of_a_pool_are_of_like_length(lengths: list[int], batch_size: int, seed: int) -> None:
    (epoch,) = epochs(lengths, batch_size, seed, 1)
    for start in range(0, len(epoch), POOL):
        spans = sorted((min(own), max(own)) for own in ([lengths[i] for i in b] for b in epoch[start : start + POOL]))
        assert all(left[1] <= right[0] for left, right in zip(spans, spans[1:]))


@given(
    lengths=st.lists(st.integers(1, 500), min_size=40, max_size=120, unique=True), batch_size=batch_sizes,
    seed=seeds, step=st.integers(1, 10**6),
)  # fmt: skip
def test_the_order_follows_from_the_seed(lengths: list[int], batch_size: int, seed: int, step: int) -> None:
    first = epochs(lengths, batch_size, seed, 2)
    assert first == epochs(lengths, batch_size, seed, 2)
    assert first != epochs(lengths, batch_size, seed + step, 2) and first[0] != first[1]

"""The one interval: against naive float64 versions, at the edges, and its parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smt_bench.evidence.interval import contrast, mean_of, over_items
from smt_bench.evidence.sides import Items, Side, accuracies, ratios


def naive(terms: list[tuple[float, list[np.ndarray]]], clusters: list[np.ndarray]) -> tuple[float, float]:
    """The difference and its variance, by loops over tasks, clusters, seeds and items as the docstring has it.

    Args:
        terms: coefficients, and by task the answers (S, N).
        clusters: by task the cluster of every item.
    """
    tasks = len(clusters)
    value = sum(c * np.mean([np.mean([a.mean() for a in run]) for run in zip(*answers)]) for c, answers in terms)
    seeds = rest = items = 0.0
    for c, answers in terms:
        runs = len(answers[0])
        accuracy = [sum(a[s].mean() for a in answers) / tasks for s in range(runs)]
        seeds += c**2 * np.var(accuracy, ddof=1) / runs
        for a, names in zip(answers, clusters):
            groups = np.unique(names)
            total = 0.0
            for s in range(runs):
                for g in groups:
                    left = 0.0
                    for i in np.flatnonzero(names == g):
                        left += a[s, i] - a[s].mean() - a[:, i].mean() + a.mean()
                    total += (left / (a.shape[1] * tasks)) ** 2
            rest += c**2 * total * groups.size / (groups.size - 1) / (runs - 1) / runs
    for t, names in enumerate(clusters):
        groups = np.unique(names)
        means = sum(c * (answers[t].mean(axis=0) - answers[t].mean()) for c, answers in terms)
        total = sum((means[names == g].sum() / (names.size * tasks)) ** 2 for g in groups)
        items += total * groups.size / (groups.size - 1)
    return float(value), max(items, items + seeds - rest)


@pytest.mark.parametrize("spread", [0.0, 0.3])  # so that either side of the maximum is met
def test_the_variance_is_the_naive_one(spread: float) -> None:
    rng = np.random.default_rng(int(10 * spread))
    clusters = [np.array([0, 0, 1, 2, 2, 2, 3, 4]), np.array([5, 6, 6, 7, 8])]
    terms = []
    for c, runs in ((1.0, 3), (-1.0, 4)):
        levels = 0.6 + spread * rng.standard_normal(runs)
        terms.append((c, [(rng.random((runs, n.size)) < levels[:, None]).astype(float) for n in clusters]))
    items = Items.of([n.tolist() for n in clusters])
    # Without the least value, which so few items would meet.
    found = contrast([(c, replace(accuracies(answers, items, scale=1.0), flips=0.0)) for c, answers in terms])
    value, variance = naive(terms, clusters)
    assert found.value == pytest.approx(value) and found.se == pytest.approx(np.sqrt(variance))
    assert found.seeds == 3 and found.df >= 2


def test_a_ratio_is_linearised() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 9, 60).astype(float)
    part = weight * (0.4 + 0.1 * rng.standard_normal((3, 60)))
    side = ratios(part, weight, Items.of([range(60)]))
    assert side.value_S == pytest.approx(part.sum(axis=1) / weight.sum())
    # The jackknife of the mean over seeds has the linearised variance, to first order.
    mean = part.mean(axis=0)
    left_out = np.array([np.delete(mean, i).sum() / np.delete(weight, i).sum() for i in range(60)])
    assert over_items([(1.0, side)]) == pytest.approx(
        np.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum()), rel=0.02
    )


def test_runs_with_tokens_of_their_own_have_ratios_of_their_own() -> None:
    """Where data vary with the seed, a run's value is its own losses over its own tokens, as its cell in a table has it."""
    rng = np.random.default_rng(3)
    weight = rng.integers(1, 9, (3, 40)).astype(float)
    part = weight * rng.uniform(0.5, 1.5, (3, 40))
    side = ratios(part, weight, Items.of([range(40)]))
    assert side.value_S == pytest.approx(part.sum(axis=1) / weight.sum(axis=1), rel=1e-14)
    assert side.influence_SG.sum(axis=1) == pytest.approx(np.zeros(3), abs=1e-12)
    same = np.broadcast_to(weight[0], part.shape)
    assert np.array_equal(ratios(part, weight[0], side.items).value_S, ratios(part, same, side.items).value_S)


def test_items_of_one_source_count_together() -> None:
    """Every item asked twice says no more than once."""
    rng = np.random.default_rng(3)
    right = (rng.random((2, 3, 50)) < 0.6).astype(float)
    once, twice = Items.of([range(50)]), Items.of([[*range(50), *range(50)]])
    few = contrast([(c, accuracies([a], once)) for c, a in zip((1.0, -1.0), right)])
    many = contrast([(c, accuracies([np.hstack([a, a])], twice)) for c, a in zip((1.0, -1.0), right)])
    apart = contrast([(c, accuracies([np.hstack([a, a])], Items.of([range(100)]))) for c, a in zip((1.0, -1.0), right)])
    assert many.se == pytest.approx(few.se) and apart.se < 0.9 * few.se


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("items", [5, 29, 500])
def test_all_right_and_all_wrong_have_a_width(share: float, items: int) -> None:
    side = accuracies([np.full((3, items), share)], Items.of([range(items)]))
    level, difference = contrast([(1.0, side)]), contrast([(1.0, side), (-1.0, side)])
    for found in (level, difference):
        assert found.half() == pytest.approx(found.half()) and found.half() > 100 / items  # more than one item
    assert difference.interval(0.9)[1] < 1 or items < 500


def test_one_seed_or_one_source_has_no_interval() -> None:
    items = Items.of([range(40)])
    one, two = (accuracies([np.ones((n, 40))], items) for n in (1, 2))
    assert contrast([(1.0, one), (-1.0, two)]).interval() is None
    assert contrast([(1.0, accuracies([np.ones((2, 40))], Items.of([[7] * 40])))]).se is None
    # What nothing is trained for has no spread over seeds, and needs none.
    fixed = accuracies([np.tile([1.0, 0.0], (1, 20))], items, fixed=True)
    assert contrast([(1.0, two), (-1.0, fixed)]).se is not None


def test_other_items_are_refused() -> None:
    a, b = (accuracies([np.ones((2, n))], Items.of([range(n)])) for n in (40, 41))
    with pytest.raises(ValueError, match="compare the same examples"):
        contrast([(1.0, a), (-1.0, b)])


def test_more_seeds_shrink_the_part_of_the_seeds_alone() -> None:
    rng = np.random.default_rng(8)
    level = rng.random(300)
    right = (rng.random((2, 40, 300)) < level + 0.05 * rng.standard_normal((2, 40, 1))).astype(float)
    items = Items.of([range(300)])

    def at(seeds: int) -> object:
        return contrast([(c, accuracies([a[:seeds]], items)) for c, a in zip((1.0, -1.0), right)])

    many = at(40)
    assert many.parts.at(40)[0] == pytest.approx(many.se, rel=0.05)
    assert many.parts.at(4)[0] > many.parts.at(40)[0] > np.sqrt(many.parts.items)


def test_means_of_values() -> None:
    assert mean_of([1.0, 2.0, 3.0]).se == pytest.approx(1 / np.sqrt(3)) and mean_of([2.0, 2.0]).se is None
    assert isinstance(accuracies([np.ones((1, 2))], Items.of([range(2)])), Side)

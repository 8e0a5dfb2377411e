"""Plain intervals over seeds, the interval for one more run, rank correlations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from scipy.stats import t as student

from smt_bench.evidence.stats import fisher_z, mean_ci, mean_correlation, one_more, over_items_z, rank_correlation


def test_t_interval_against_the_literature() -> None:
    # NIST e-Handbook 1.3.5.2 (zarr13): n=195, mean 9.261460, sd 0.022789, 95 % interval 9.258242 to 9.264679.
    x = np.linspace(-1, 1, 195)
    x = 9.261460 + 0.022789 * x / x.std(ddof=1)
    mean, half = mean_ci(x)
    assert mean == pytest.approx(9.261460) and half == pytest.approx(0.0032187, rel=2e-4)
    # Tabulated t for 2 degrees of freedom: 4.303; standard deviation 1, n = 3.
    assert mean_ci([1.0, 2.0, 3.0])[1] == pytest.approx(4.303 / np.sqrt(3), rel=1e-4)


def test_without_spread_there_is_no_interval_and_without_values_no_mean() -> None:
    assert mean_ci([7.0]) == (7.0, None) == mean_ci([7.0, 7.0, 7.0])  # never a width of 0
    with pytest.raises(ValueError, match="no values"):
        mean_ci([])


def test_equal_answers_summed_in_turn_have_no_spread() -> None:
    """Two runs with 34 % each, over five tasks in two ways: rounding once made 34.0 ± 0.0 of them."""
    a, b = (100 * sum(parts) / 5 for parts in ((0.6, 0.5, 0.3, 0.2, 0.1), (0.3, 0.5, 0.2, 0.1, 0.6)))
    c = np.nextafter(a, 100.0)
    assert a != c and a == pytest.approx(b)
    assert mean_ci([a, b, c])[1] is None is one_more([a, b, c])
    assert mean_ci([a, a + 1e-9])[1] is not None


def test_order_of_seeds_does_not_matter() -> None:
    values = [0.1, 0.7, 0.2, 1e-9, 3.3]
    assert mean_ci(values) == mean_ci(values[::-1])


def test_one_more_run_by_hand() -> None:
    assert one_more([1.0, 2.0, 3.0]) == pytest.approx(student.ppf(0.975, 2) * np.sqrt(1 + 1 / 3))
    # Other test items: their variance, once for ours and once for the printed run's.
    assert one_more([1.0, 2.0, 3.0], 0.5) == pytest.approx(student.ppf(0.975, 2) * np.sqrt(1 + 1 / 3 + 1))
    assert one_more([1.0]) is None is one_more([1.0, 1.0])


def test_rank_correlation_is_scipys_and_a_flat_score_predicts_nothing() -> None:
    rng = np.random.default_rng(0)
    benefit = rng.standard_normal(30)
    score = np.round(benefit + rng.standard_normal(30), 0)  # with ties
    assert rank_correlation(score, benefit) == pytest.approx(spearmanr(score, benefit).statistic)
    assert rank_correlation(benefit, benefit) == pytest.approx(1) and rank_correlation(np.ones(30), benefit) == 0


def test_correlations_are_averaged_in_fishers_z() -> None:
    rho, interval, z = mean_correlation([0.5, 0.7, 0.9])
    by_hand = np.arctanh([0.5, 0.7, 0.9])
    half = student.ppf(0.975, 2) * by_hand.std(ddof=1) / np.sqrt(3)
    assert rho == pytest.approx(np.tanh(by_hand.mean())) and z.value == pytest.approx(by_hand.mean())
    assert interval == pytest.approx(np.tanh([by_hand.mean() - half, by_hand.mean() + half]))
    assert interval[1] < 1 and mean_correlation([0.5])[1] is None
    assert np.isfinite(fisher_z(1.0)) and over_items_z(3) is None


def test_the_error_of_fishers_z_over_items_by_simulation() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        x = rng.standard_normal(40)
        found.append(fisher_z(rank_correlation(x, 0.6 * x + 0.8 * rng.standard_normal(40))))
    assert np.std(found) == pytest.approx(over_items_z(40), rel=0.08)

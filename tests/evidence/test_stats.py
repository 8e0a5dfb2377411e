from __future__ import annotations

import time

import numpy as np
import pytest

from smt_bench.evidence.stats import macro_stderr, mean_ci, paired_bootstrap, paired_bootstrap_ratio, ratio_stderr


def test_t_interval_against_the_literature():
    # NIST e-Handbook 1.3.5.2 (zarr13): n=195, mean 9.261460, sd 0.022789, 95 % interval 9.258242 to 9.264679.
    x = np.linspace(-1, 1, 195)
    x = 9.261460 + 0.022789 * x / x.std(ddof=1)
    mean, half = mean_ci(x)
    assert mean == pytest.approx(9.261460) and half == pytest.approx(0.0032187, rel=2e-4)
    # Tabulated t for 2 degrees of freedom: 4.303; standard deviation 1, n = 3.
    assert mean_ci([1.0, 2.0, 3.0])[1] == pytest.approx(4.303 / np.sqrt(3), rel=1e-4)


def test_one_value_has_no_interval_and_none_no_mean():
    assert mean_ci([7.0]) == (7.0, None)
    with pytest.raises(ValueError, match="no values"):
        mean_ci([])


def test_order_of_seeds_does_not_matter():
    values = [0.1, 0.7, 0.2, 1e-9, 3.3]
    assert mean_ci(values) == mean_ci(values[::-1])


def test_standard_errors():
    assert macro_stderr({"t": [1, 1, 1, 0]}) == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    two = macro_stderr({"a": [1, 0], "b": [1, 1]})
    assert two == pytest.approx(np.sqrt(0.25 / 2) / 2)
    # Equal weights: the standard error of a mean.
    assert ratio_stderr([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) == pytest.approx(1 / np.sqrt(3))
    assert ratio_stderr([1.0], [1.0]) is None


def test_bootstrap_against_a_naive_loop():
    rng = np.random.default_rng(0)
    a = {"x": rng.random(40) < 0.8, "y": rng.random(25) < 0.5}
    b = {"x": rng.random(40) < 0.6, "y": rng.random(25) < 0.5}
    drawn = []
    for _ in range(4000):
        tasks = []
        for task in a:
            picked = rng.integers(len(a[task]), size=len(a[task]))
            tasks.append(a[task][picked].mean() - b[task][picked].mean())
        drawn.append(np.mean(tasks))
    result = paired_bootstrap(a, b, seed=1)
    expected = np.mean([a[t].mean() - b[t].mean() for t in a])
    assert result["difference"] == pytest.approx(expected) and result["n"] == 65
    assert [result["low"], result["high"]] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.015)


def test_bootstrap_of_seed_means_and_of_ratios_against_naive_loops():
    rng = np.random.default_rng(3)
    a, b, tokens = rng.integers(4, size=60) / 3, rng.integers(4, size=60) / 3, rng.integers(1, 9, size=60)
    picks = rng.integers(60, size=(4000, 60))
    plain, ratio = paired_bootstrap(a, b, 0), paired_bootstrap_ratio(a, b, tokens, 0)
    naive = np.percentile([(a - b)[p].mean() for p in picks], [2.5, 97.5])
    assert [plain["low"], plain["high"]] == pytest.approx(naive, abs=0.02)
    naive = np.percentile([(a - b)[p].sum() / tokens[p].sum() for p in picks], [2.5, 97.5])
    assert [ratio["low"], ratio["high"]] == pytest.approx(naive, abs=0.006)
    assert ratio["difference"] == pytest.approx((a - b).sum() / tokens.sum())


def test_bootstrap_is_repeatable_antisymmetric_and_paired():
    rng = np.random.default_rng(5)
    a, b = rng.integers(2, size=50), rng.integers(2, size=50)
    there, back = paired_bootstrap(a, b, seed=2), paired_bootstrap(b, a, seed=2)
    assert there == paired_bootstrap(a, b, seed=2)
    assert there["difference"] == -back["difference"]
    same = paired_bootstrap(a, a, seed=0)
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)


def test_bootstrap_counts_tasks_alike_however_large():
    result = paired_bootstrap({"small": [1, 1], "large": [0] * 1000}, {"small": [0, 0], "large": [0] * 1000}, 0)
    assert result["difference"] == 0.5


def test_bootstrap_refuses_what_is_not_paired():
    with pytest.raises(ValueError, match="same examples"):
        paired_bootstrap([1, 0], [1], 0)
    with pytest.raises(ValueError, match="same tasks"):
        paired_bootstrap({"a": [1]}, {"b": [1]}, 0)
    with pytest.raises(ValueError, match="same examples"):
        paired_bootstrap_ratio([], [], [], 0)


def test_bootstrap_is_fast_on_full_test_sets():
    rng = np.random.default_rng(0)
    a, b = rng.integers(2, size=20_000), rng.integers(2, size=20_000)
    start = time.perf_counter()
    paired_bootstrap(a, b, 0)
    assert time.perf_counter() - start < 1

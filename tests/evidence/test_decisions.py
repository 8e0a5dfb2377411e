"""One decision per comparison, corrected, and what the design could have found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import nct
from scipy.stats import t as student

from smt_bench.evidence.decisions import (
    AHEAD,
    BEHIND,
    INTERIM,
    OPEN,
    UNMEASURED,
    WITHIN,
    Margins,
    benjamini_hochberg,
    decide,
    equal_at,
    holm,
    looking,
    margins,
    p_difference,
    p_within,
    seeds_needed,
    smallest,
    smallest_at,
    using,
)
from smt_bench.evidence.interval import Estimate, Parts
from smt_bench.evidence.verdicts import HOLDS, REFUTED, judge, overall, tally, unanimous, verdict


def between(low: float, high: float, df: float = 20.0, seeds: int = 3) -> Estimate:
    """The estimate of which this is the 95 % interval."""
    return Estimate((low + high) / 2, (high - low) / 2 / float(student.ppf(0.975, df)), df, seeds)


@pytest.mark.parametrize(
    ("low", "high", "zone"),
    [
        (0.1, 9, AHEAD),
        (-0.1, 9, OPEN),
        (-9, -0.1, BEHIND),
        (0.2, 0.8, WITHIN),  # not ahead as well
        (-0.9, 0.9, WITHIN),
        (-1.05, 1.05, WITHIN),  # its 90 % interval lies within
        (-1.3, 1.3, OPEN),
        (-9, 0.5, OPEN),
        (1.1, 1.2, AHEAD),
    ],
)
def test_three_zones_and_open(low: float, high: float, zone: str) -> None:
    (found,) = decide([between(low, high)], 1.0, holm)
    assert found.zone == zone
    (turned,) = decide([between(-high, -low)], 1.0, holm)
    assert turned.zone == {AHEAD: BEHIND, BEHIND: AHEAD}.get(zone, zone)


def test_no_interval_is_both_ahead_and_no_difference() -> None:
    rng = np.random.default_rng(0)
    for low, width in zip(rng.uniform(-2, 2, 500), rng.uniform(0.01, 2, 500)):
        (ahead,) = decide([between(low, low + width)], 1.0, holm)
        (equal,) = decide([between(low, low + width)], 1.0, holm, [True])
        assert not (verdict(ahead) == HOLDS and verdict(equal, equal=True) == HOLDS)
        assert not (verdict(ahead) == HOLDS and verdict(ahead, denied=True) == HOLDS)


@pytest.mark.parametrize(
    ("low", "high", "claims"),
    [
        (0.1, 9, (HOLDS, OPEN, REFUTED)),  # ahead; maybe by less than the margin
        (1.1, 9, (HOLDS, REFUTED, REFUTED)),
        (-0.5, 0.5, (REFUTED, HOLDS, HOLDS)),
        (-9, -2, (REFUTED, REFUTED, HOLDS)),
        (-9, 9, (OPEN, OPEN, OPEN)),
    ],
)
def test_what_decisions_say_of_claims(low: float, high: float, claims: tuple[str, str, str]) -> None:
    (plain,) = decide([between(low, high)], 1.0, holm)
    (beyond,) = decide([between(low, high)], 1.0, holm, [True])
    assert (verdict(plain), verdict(beyond, equal=True), verdict(plain, denied=True)) == claims


def test_p_values_are_those_of_the_intervals() -> None:
    assert p_difference(between(0, 4)) == pytest.approx(0.05)
    e = Estimate(0.4, 0.3, 15)
    assert p_within(e, 1.0) == pytest.approx(student.sf(0.6 / 0.3, 15))
    edge = Estimate(0.4, 0.6 / float(student.ppf(0.95, 15)), 15)
    assert edge.interval(0.9)[1] == pytest.approx(1) and p_within(edge, 1.0) == pytest.approx(0.05)


def test_one_seed_and_few_examples_decide_nothing() -> None:
    one = Estimate(50.0, None, float("nan"), 1)
    found = decide([one, None, between(2, 3), between(2, 3)], 1.0, holm, sources=[100, 100, 9, 100])
    assert [d.zone for d in found] == [OPEN, OPEN, OPEN, AHEAD]
    assert [d.why for d in found[:3]] == ["one seed", "no number", "9 examples that share no source"]
    assert found[0].p is None is found[0].smallest


def test_corrections_against_the_textbook() -> None:
    # Holm (1979) and Benjamini and Hochberg (1995, section 3.2: their fifteen p values; four rejected, Bonferroni three).
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1.0,
    ]
    assert sum(q <= 0.05 for q in benjamini_hochberg(p)) == 4
    assert holm([0.01, 0.04, 0.03, 0.2]) == pytest.approx([0.04, 0.09, 0.09, 0.2])
    assert sum(q <= 0.05 for q in holm(p)) == 3 and holm([]) == [] == benjamini_hochberg([])


def test_a_family_is_corrected_and_keeps_its_order() -> None:
    estimates = [between(0.05, 4), between(3, 4), between(-9, 9)]
    assert decide(estimates[:1], 1.0, holm)[0].zone == AHEAD
    assert [d.zone for d in decide(estimates, 1.0, holm)] == [OPEN, AHEAD, OPEN]


def test_the_smallest_difference_is_found_in_four_of_five_cases() -> None:
    for df in (2.0, 4.0, 30.0):
        found = smallest(Estimate(0.0, 1.5, df))
        assert nct.sf(student.ppf(0.975, df), df, found / 1.5) == pytest.approx(0.8, abs=1e-6)


def test_seeds_that_a_difference_needs() -> None:
    parts = Parts(per_seed=8.0, items=1.0, items_df=300, cells=2)
    needed = seeds_needed(parts, 4.0)
    assert smallest_at(parts, needed) <= 4.0 < smallest_at(parts, needed - 1)
    assert seeds_needed(parts, -4.0) == needed and seeds_needed(parts, 2.0) is None  # items alone hide 2 points
    assert seeds_needed(None, 4.0) is None is seeds_needed(parts, 0.0)
    assert seeds_needed(Parts(0.01, 0.001, 300, 2), 4.0) == 2  # one seed never tells


def test_no_claim_is_decided_before_the_last_declared_run() -> None:
    found = [between(1.5, 2.5), between(-0.5, 0.5), between(0.1, 5.0, seeds=1), None]
    with looking(0):
        claims = decide(found, 1.0, holm)
        exploratory = decide(found[:2], 1.0, benjamini_hochberg)
        votes = unanimous([True, True])
        told = judge(found[:2], 1.0, str)
    assert [d.why for d in claims] == [INTERIM] * 3 + [UNMEASURED] and {d.zone for d in claims} == {OPEN}
    assert {d.p for d in claims} == {None}  # a p value would be a look too
    assert [d.zone for d in exploratory] == [AHEAD, WITHIN]  # nobody declared these
    assert votes == f"{OPEN} ({INTERIM})" and set(told) == {votes}
    assert tally(told) == "none yet on 2 claims: declared runs are missing"
    with looking(1):
        assert [d.zone for d in decide(found[:2], 1.0, holm)] == [AHEAD, WITHIN]


def test_every_further_look_counts() -> None:
    found = [between(1.5, 2.5), between(-0.5, 0.5), between(0.1, 5.0)]
    once = decide(found, 1.0, holm)
    with looking(3):
        thrice = decide(found, 1.0, holm)
        exploratory = decide(found, 1.0, benjamini_hochberg)
    assert [d.p for d in thrice] == pytest.approx([min(1.0, 3 * d.p) for d in once])
    assert [d.p_within for d in thrice] == pytest.approx([min(1.0, 3 * d.p_within) for d in once])
    assert all(b.smallest > a.smallest for a, b in zip(once, thrice))
    assert exploratory == decide(found, 1.0, benjamini_hochberg)
    barely = [between(0.01, 5.0)]  # p just below 5 %
    assert decide(barely, 1.0, holm)[0].zone == AHEAD
    with looking(2):
        assert decide(barely, 1.0, holm)[0].zone == OPEN


def test_margins_are_an_option() -> None:
    assert margins() == Margins(1.0, 0.01)
    with using(Margins(points=3.0)):
        assert margins().points == 3.0
    assert margins().points == 1.0
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="--margin-points .*above 0"):
            Margins(points=wrong)


def test_a_table_is_refuted_by_one_claim_and_upheld_by_all() -> None:
    assert overall([HOLDS, REFUTED, OPEN]) == REFUTED and overall([HOLDS, HOLDS]) == HOLDS
    assert overall([HOLDS, f"{OPEN} (one seed)"]) == overall([]) == OPEN
    assert tally([HOLDS, REFUTED, OPEN]) == "1 of 3 claims holds; 1 does not hold, 1 cannot be told"
    assert (
        tally([HOLDS]) == "the claim holds" and tally([f"{OPEN} (one seed)"]) == "the claim cannot be told (one seed)"
    )
    assert tally([HOLDS] * 9 + [REFUTED] * 3 + [OPEN] * 5) == "9 of 17 claims hold; 3 do not hold, 5 cannot be told"
    assert (
        tally([REFUTED, REFUTED]) == "none of 2 claims holds; 2 do not hold"
        and tally([HOLDS] * 2) == "all 2 claims hold"
    )
    assert judge([between(1.5, 2), None], 1.0, str) == [HOLDS, f"{OPEN} (no number)"]
    (told,) = judge([between(-5, 6)], 1.0, "{:.1f} points".format)
    assert told.startswith(f"{OPEN} (80 % power at 7.") and told.endswith(" points)")
    assert [unanimous(v) for v in ([True] * 2, [False] * 2, [True, False])] == [HOLDS, REFUTED, OPEN]
    assert unanimous([True]) == f"{OPEN} (one seed)"


@pytest.mark.parametrize("seeds", [5, 10, 40])
def test_a_true_difference_of_nothing_is_told_as_often_as_it_says(seeds: int) -> None:
    """Two cells of `seeds` runs each, drawn 40,000 times; both one-sided tests reject in four of five."""
    rng, sd, draws = np.random.default_rng(3), 2.0, 40_000
    margin = equal_at(Parts(2 * sd**2, 0.0, 1.0, 2), seeds)
    runs = rng.normal(0, sd, (2, draws, seeds))
    difference = runs[0].mean(-1) - runs[1].mean(-1)
    se = np.sqrt(runs.var(-1, ddof=1).sum(0) / seeds)
    told = np.abs(difference) + student.ppf(0.95, 2 * (seeds - 1)) * se <= margin
    assert 0.77 < told.mean() < 0.85
    assert seeds_needed(Parts(2 * sd**2, 0.0, 1.0, 2), margin * 1.0001, reached=equal_at) == seeds


def test_more_items_take_off_what_items_are_behind() -> None:
    parts = Parts(8.0, 2.0, 100.0, 2)
    assert parts.with_items(4) == Parts(8.0, 0.5, 400.0, 2) and parts.with_items(1) == parts
    assert smallest_at(parts.with_items(1e9), 5) == pytest.approx(
        smallest_at(Parts(8.0, 0.0, math.inf, 2), 5), rel=1e-3
    )

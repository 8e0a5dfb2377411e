"""What a difference is called: the rule, its sum over a table, and pairs of methods."""

from __future__ import annotations

import pytest
from made_up import EIGHT, record

from smt_bench.evidence.cells import common_tasks, groups
from smt_bench.evidence.pairs import compare, verdicts
from smt_bench.evidence.verdicts import HOLDS, OPEN, REFUTED, Claim, judge, overall, tally, weigh
from smt_bench.evidence.words import title


@pytest.mark.parametrize(
    ("intervals", "seeds", "equal", "verdict"),
    [
        ([(0.1, 9), (2, 3)], 3, False, HOLDS),
        ([(-0.1, 9), (2, 3)], 3, False, OPEN),
        ([(-9, 0.9), (-3, -2)], 3, False, REFUTED),
        ([(-9, 1.1), (-3, -2)], 3, False, OPEN),
        ([(0.1, 0.2)], 3, False, HOLDS),
        ([(2, 3)], 1, False, f"{OPEN} (one seed)"),
        ([(-0.9, 0.9)], 3, True, HOLDS),
        ([(-0.9, 1.1)], 3, True, OPEN),
        ([(1.1, 3), (1.2, 2)], 3, True, REFUTED),
        ([(-3, -1.1)], 3, True, REFUTED),
    ],
)
def test_the_rule_of_verdicts(intervals: list[tuple[float, float]], seeds: int, equal: bool, verdict: str) -> None:
    assert judge(intervals, seeds, 1.0, equal) == verdict


def test_a_table_is_refuted_by_one_claim_and_upheld_by_all() -> None:
    assert overall([HOLDS, REFUTED, OPEN]) == REFUTED and overall([HOLDS, HOLDS]) == HOLDS
    assert overall([HOLDS, f"{OPEN} (one seed)"]) == overall([]) == OPEN
    assert tally([HOLDS, REFUTED, OPEN]) == "does not hold (3 claims: 1 holds, 1 does not hold, 1 cannot be told)"


def test_verdicts():
    good, bad = {"boolq": [1] * 50}, {"boolq": [1] * 20 + [0] * 30}
    noisy = [{"boolq": [1] * 50}, {"boolq": [1] * 15 + [0] * 35}]
    records = [record(m, 1.0, s, r, nll=n) for s in (0, 1) for m, r, n in (("smt", good, 1.0), ("lora", bad, 1.5))]
    records += [record("dora", 1.0, s, noisy[s]) for s in (0, 1)]
    records += [
        record("spiel", 1.0, 0, good, nll=1.0),
        record("full", None, 5, good),
        record("ia3", 1.0, 0, status="diverged"),
    ]
    frame = verdicts(records, "smt").set_index(["method", "versus"])
    lora = frame.loc["smt", "lora"]
    assert lora["difference"] == pytest.approx(60) and 40 < lora["low"] < 60 < lora["high"] < 80
    assert (lora["n_seeds"], lora["n_examples"], lora["verdict"]) == (2, 50, "SMT better")
    assert lora["nll_difference"] == pytest.approx(-0.5) and lora["nll_verdict"] == "SMT better"
    assert frame.loc["smt", "dora"]["verdict"] == "SMT better on these examples, not beyond the spread of seeds"
    assert frame.loc["smt", "spiel"]["verdict"] == "no difference can be told"
    assert frame.loc["smt", "full"]["verdict"] == "no result: no seed in common"
    assert frame.loc["smt", "ia3"]["verdict"] == "no result: ia3 1 % diverged"
    assert frame.loc["lora", "full"]["difference"] is None or frame.loc["lora", "full"].isna()["difference"]
    other = verdicts(records, reference="lora").set_index(["method", "versus"])
    assert other.loc["lora", "smt"]["verdict"] == "SMT better"
    single = verdicts([record("smt", 1.0, 0, good), record("lora", 1.0, 0, bad)], "smt").iloc[0]
    assert single["verdict"] == "SMT better (one seed)" and single["seeds_ci95"] is None


def test_what_was_made_of_some_records_is_never_told_of_others() -> None:
    good, bad = {"boolq": [1] * 50}, {"boolq": [1] * 20 + [0] * 30}
    first = groups(record(m, 1.0, s, right) for s in (0, 1) for m, right in (("smt", good), ("lora", bad)))
    second = groups(record(m, 1.0, s, right) for s in (0, 1) for m, right in (("smt", bad), ("lora", good)))
    assert groups(first) is first and groups([r for g in first for r in g.done]) == first
    for found, wanted in ((first, 60), (second, -60), (first, 60)):
        mine = {g.method: g for g in found}
        assert verdicts(found, "smt")["difference"].tolist() == [pytest.approx(wanted)]
        for a in (mine["smt"], mine["smt"].called("SMT")):  # the same runs under another name, whichever asked first
            row = compare(a, mine["lora"].called("another"), ["boolq"])
            assert (row["difference"], row["method"], row["versus"]) == (pytest.approx(wanted), a.method, "another")
            assert row["verdict"] == ("another better" if wanted < 0 else f"{title(a.method)} better")
    mixed = compare(first[0], second[0], ["boolq"]), compare(first[0], first[0], ["boolq"])
    assert [abs(row["difference"]) for row in mixed] == [pytest.approx(60), 0]
    some = groups([record("smt", 1.0, 0, good), record("smt", 1.0, 1, bad), record("lora", 1.0, 1, bad)])
    assert compare(some[1], some[0], ["boolq"])["difference"] == 0  # of the seed that both have


def weighed(answers: dict[str, list[dict[str, list[int]]]], equal: bool = False) -> str:
    """The verdict on "A is ahead of B" (or "A equals B") from the answers of each, by seed."""
    records = [record(m, 1.0, s, right) for m, seeds in answers.items() for s, right in enumerate(seeds)]
    found = groups(records)
    return weigh(Claim("", "a", "b", equal), found[0], found[1], common_tasks(found))["verdict"]


def test_intervals_of_width_0_decide_nothing() -> None:
    """Five tasks of one item, three equal seeds: +100.0 ± 0.0 [+100.0, +100.0] once held."""
    one, none = ({task: [right] for task in EIGHT[:5]} for right in (1, 0))
    assert weighed({"a": [one] * 3, "b": [none] * 3}) == f"{OPEN} (too few examples (5))"
    assert weighed({"a": [one] * 3, "b": [one] * 3}, equal=True) == f"{OPEN} (too few examples (5))"


@pytest.mark.parametrize(("apart", "holds"), [(9, False), (10, True)])
def test_a_difference_takes_examples_that_tell_the_two_apart(apart: int, holds: bool) -> None:
    right, wrong = {"boolq": [1] * 60}, {"boolq": [0] * apart + [1] * (60 - apart)}
    verdict = weighed({"a": [right] * 3, "b": [wrong] * 3})
    assert verdict == (HOLDS if holds else f"{OPEN} (no difference can be told (9 examples answered differently))")


def test_no_difference_takes_none() -> None:
    right = {"boolq": [1] * 200}
    assert weighed({"a": [right] * 3, "b": [right] * 3}, equal=True) == HOLDS

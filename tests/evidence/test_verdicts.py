"""What is said of cells: comparisons of methods, claims on a table, plateaus, seeds item by item."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import EIGHT, record

from smt_bench.evidence import item_by_item
from smt_bench.evidence.cells import common_tasks, groups
from smt_bench.evidence.claims import Sheet, Weighed, weighed
from smt_bench.evidence.decisions import OPEN
from smt_bench.evidence.pairs import compare, verdicts
from smt_bench.evidence.plateaus import plateaus
from smt_bench.evidence.verdicts import HOLDS, REFUTED, Claim

Right = dict[str, list[int]]


def answers(share: float, seed: int, n: int = 200, tasks: tuple[str, ...] = ("boolq", "piqa")) -> Right:
    """The same items first, a few other ones by seed."""
    rng = np.random.default_rng((seed, round(1000 * share)))
    return {t: [int(i < share * n + 3 * rng.standard_normal()) for i in range(n)] for t in tasks}


def made(shares: dict[tuple[str, float], float], seeds: int = 4, n: int = 200) -> list[dict]:
    return [
        record(m, pct, s, answers(share, s, n), nll=2 - share + 0.001 * np.sin(s + 7 * share))
        for (m, pct), share in shares.items()
        for s in range(seeds)
    ]


def test_comparisons_say_who_is_ahead() -> None:
    records = made({("smt", 1.0): 0.9, ("lora", 1.0): 0.6, ("dora", 1.0): 0.905})
    records += [record("spiel", 1.0, 0, answers(0.2, 0)), record("ia3", 1.0, 0, status="diverged")]
    frame = verdicts(records, "smt").set_index(["method", "versus"])
    lora = frame.loc["smt", "lora"]
    assert lora["difference"] == pytest.approx(30, abs=3) and lora["low"] < lora["difference"] < lora["high"]
    assert lora["p"] < 0.001
    assert (lora["n_seeds"], lora["n_examples"], lora["verdict"]) == (4, 400, "SMT ahead")
    assert lora["nll_difference"] == pytest.approx(-0.3, abs=0.01) and lora["nll_verdict"] == "SMT ahead"
    assert frame.loc["smt", "dora"]["verdict"] == OPEN and frame.loc["smt", "dora"]["smallest"] > 0.5
    assert frame.loc["smt", "dora"]["nll_verdict"] == "within the margin"
    assert frame.loc["smt", "spiel"]["verdict"] == f"{OPEN} (one seed)"  # 70 points apart
    assert frame.loc["smt", "ia3"]["verdict"] == "no result: ia3 1 % diverged"
    other = verdicts(records, reference="lora").set_index(["method", "versus"])
    assert other.loc["lora", "smt"]["verdict"] == "SMT ahead"
    assert other.loc["lora", "smt"]["difference"] == -lora["difference"]


def test_seeds_need_not_be_the_same() -> None:
    """Runs of one seed number share nothing that shows in their values."""
    a, b = made({("smt", 1.0): 0.9}), made({("lora", 1.0): 0.6})
    later = [record("lora", 1.0, s + 10, answers(0.6, s), nll=1.4 + 0.001 * np.sin(s + 4.2)) for s in range(4)]
    there, here = (verdicts([*a, *others], "smt").iloc[0] for others in (b, later))
    assert (there["low"], there["high"]) == (here["low"], here["high"]) and here["n_seeds"] == 4


def test_what_was_made_of_some_records_is_never_told_of_others() -> None:
    first = groups(made({("smt", 1.0): 0.9, ("lora", 1.0): 0.6}))
    second = groups(made({("smt", 1.0): 0.6, ("lora", 1.0): 0.9}))
    assert groups(first) is first and groups([r for g in first for r in g.done]) == first
    for found, sign in ((first, 1), (second, -1), (first, 1)):
        mine = {g.method: g for g in found}
        assert sign * verdicts(found, "smt")["difference"][0] > 20
        for a in (mine["smt"], mine["smt"].called("SMT")):  # the same runs under another name, whichever asked first
            row = compare(a, mine["lora"].called("another"), ["boolq"]).row()
            assert sign * row["difference"] > 20 and (row["method"], row["versus"]) == (a.method, "another")
    with pytest.raises(ValueError, match="compare the same examples"):
        compare(first[0], groups(made({("smt", 1.0): 0.9}, n=20))[0], ["boolq"])


def sheet(*claims: Claim, printed: dict[str, float] | None = None) -> Sheet:
    return Sheet("t", "T", lambda record: None, (), "a", claims, lambda label, pct: (printed or {}).get(label))


def judged(shares: dict[str, float], *claims: Claim, printed: dict[str, float] | None = None) -> list[Weighed]:
    found = groups(made({(name, 1.0): share for name, share in shares.items()}))
    return weighed(found, sheet(*claims, printed=printed))


def test_claims_are_corrected_together_controls_apart() -> None:
    shares = {"a": 0.655, "b": 0.6, "c": 0.6001, "d": 0.3}
    claims = [Claim("ahead", "a", "b"), *(Claim("equal", "b", "c", equal=True) for _ in range(9))]
    alone, together = judged(shares, claims[0])[0], judged(shares, *claims)[0]
    assert together.decisions[""].p == pytest.approx(min(10 * alone.decisions[""].p, 1), rel=1e-6)
    assert together.decisions[""].smallest > alone.decisions[""].smallest
    controls = judged(shares, claims[0], *(Claim("c", "b", "c", control=True) for _ in range(9)))
    assert controls[0].decisions[""].p == alone.decisions[""].p


def test_claims_of_all_kinds() -> None:
    shares = {"a": 0.9, "b": 0.5, "c": 0.5}
    found = judged(
        shares, Claim("", "a", "b"), Claim("", "b", "a"), Claim("", "a", "b", equal=True), Claim("", "a", "b", denied=True),
        Claim("", "b", "a", denied=True),
    )  # fmt: skip
    assert [w.verdict() for w in found] == [HOLDS, REFUTED, REFUTED, REFUTED, HOLDS]


def test_what_cannot_be_told_says_what_could_be() -> None:
    (w,) = judged({"a": 0.61, "b": 0.6}, Claim("", "a", "b"), printed={"a": 80.0, "b": 75.0})
    assert w.verdict() == OPEN and w.printed == 5.0
    assert w.decisions[""].smallest > 1 and w.seeds is not None and w.seeds >= 2
    (w,) = judged({"a": 0.9, "b": 0.6}, Claim("", "a", "b"), printed={"a": 80.0, "b": 75.0})
    assert w.verdict() == HOLDS and w.seeds is None


def test_five_items_decide_nothing() -> None:
    """Five tasks of one item, three equal seeds: +100.0 ± 0.0 [+100.0, +100.0] once held."""
    one, none = ({task: [right] for task in EIGHT[:5]} for right in (1, 0))
    found = groups(record(m, 1.0, s, right) for m, right in (("a", one), ("b", none)) for s in range(3))
    for claim in (Claim("", "a", "b"), Claim("", "a", "b", equal=True)):
        (w,) = weighed(found, sheet(claim))
        assert w.verdict().startswith(OPEN) and w.comparison.row()["low"] is None


@pytest.mark.parametrize(("apart", "verdict"), [(1, OPEN), (10, HOLDS)])
def test_a_difference_takes_examples_that_tell_the_two_apart(apart: int, verdict: str) -> None:
    right, wrong = {"boolq": [1] * 60}, {"boolq": [0] * apart + [1] * (60 - apart)}
    found = groups(record(m, 1.0, s, r) for m, r in (("a", right), ("b", wrong)) for s in range(3))
    assert weighed(found, sheet(Claim("", "a", "b")))[0].verdict() == verdict


def test_plateaus_by_method() -> None:
    shares = {("smt", 1.0): 0.5, ("smt", 2.0): 0.6, ("smt", 4.0): 0.7} | {("lora", f): 0.7 for f in (1.0, 2.0, 4.0)}
    records = made(shares, n=2000) + [record("dora", f, 0, answers(0.5, 0, 2000), nll=1.0) for f in (1.0, 2.0)]
    found = {p.method: p for p in plateaus(groups(records))}
    assert found["smt"].slope.value == pytest.approx(10, abs=0.5) and found["smt"].verdict == "still gains"
    low, high = found["smt"].slope.interval()
    assert low < 10 < high and found["lora"].verdict == "plateau" and found["dora"].verdict == f"{OPEN} (one seed)"
    by_hand = np.polyfit(
        np.log2([1, 2, 4]), [np.mean(g.answers.accuracies(["boolq", "piqa"])) for g in found["smt"].cells], 1
    )
    assert found["smt"].slope.value == pytest.approx(by_hand[0])
    nll = {p.method: p for p in plateaus(groups(records), heldout=True)}
    assert nll["smt"].step.value > 0 and nll["smt"].verdict == "still gains"  # a fall is a gain


def test_agreement_of_seeds_by_hand() -> None:
    right = np.array([[1, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0]])
    share, kappa = item_by_item.agreement(right)
    assert share == pytest.approx((1 + 1 / 3 + 1 + 1 / 3) / 4)
    chance = (6 / 12) ** 2 * 2
    assert kappa == pytest.approx((share - chance) / (1 - chance))
    assert item_by_item.agreement(np.ones((2, 5)))[1] is None  # nothing beyond chance to see
    rng = np.random.default_rng(0)
    assert item_by_item.agreement(rng.integers(2, size=(3, 20_000)))[1] == pytest.approx(0, abs=0.02)


def test_calibration_by_hand() -> None:
    sure, right = np.array([0.95, 0.95, 0.65, 0.65]), np.array([1, 0, 1, 1])
    assert item_by_item.calibration_error(sure, right) == pytest.approx(0.5 * abs(0.95 - 0.5) + 0.5 * abs(0.65 - 1))
    found = groups([record("smt", 1.0, 0, {"boolq": [1, 0]})])
    said = item_by_item.summary(found[0], common_tasks(found))
    assert said["agreement"] is None is said["ece"] is said["brier"]  # one seed; records without probabilities

"""Each check of the printed numbers on made-up tables: one that it must catch, one that it must pass."""

from __future__ import annotations

from decimal import Decimal

import pytest

from smt_bench.audit.checks import granularity, marks, noise, repeats
from smt_bench.audit.checks.averages import row_averages, speedups
from smt_bench.audit.finding import Finding, Interval, against, mean, rounded, unit
from smt_bench.audit.printed import COMMONSENSE, Row, cell, label, title

D = Decimal


def scores(values: str, average: str, **row: str) -> dict[str, str]:
    """A row with eight commonsense scores, or eight times the same."""
    parts = values.split()
    return {**row, **dict(zip(COMMONSENSE, parts * 8 if len(parts) == 1 else parts)), "avg": average}


def verdicts(found: list[Finding]) -> list[str]:
    return [f.verdict for f in found]


def test_printed_numbers_are_intervals() -> None:
    assert unit(D("80.60")) == D("0.01") and unit(D("100")) == 1
    assert rounded(D("0.125"), D("1.00")) == D("0.13")
    assert Interval.of(D("78.7")) == Interval(D("78.65"), D("78.75"))
    assert Interval.of(D("78.7")).meets(Interval.of(D("78.66")))
    assert not Interval.of(D("78.6")).meets(Interval.of(D("78.66")))
    assert not Interval.of(D("78.6")).meets(Interval.of(D("78.7")))  # 78.65 is printed as one of them, never as both
    assert mean([D("1.0"), D("2.0")]) == Interval(D("1.45"), D("1.55"))


@pytest.mark.parametrize(
    ("printed", "computed", "verdict"),
    [
        ("2.0", Interval.exact(2), "agrees"),
        ("82.4", mean([D("82.4"), D("82.5")]), "agrees within rounding"),
        ("13.6", Interval.of(D("243.84")) / Interval.of(D("17.82")), "differs by 0.1"),
        ("3.2", Interval.of(D("78.5")) - Interval.of(D("74.1")), "differs by 1.2"),
    ],
)
def test_the_rule_of_tolerance(printed: str, computed: Interval, verdict: str) -> None:
    assert against(D(printed), computed)[1] == verdict


def test_verdicts_say_whether_a_finding_holds() -> None:
    held = [Finding("c", "t", "r", "c", D(1), None, v).holds for v in ("agrees within rounding", "differs by 1")]
    assert held == [True, False]
    unknown = Finding("c", "t", "r", "c", D("80.60"), "x", "cannot be told: why")
    assert unknown.holds is None
    assert unknown.to_dict() == {
        "table": "t", "row": "r", "column": "c", "printed": 80.6, "computed": "x",
        "verdict": "cannot be told: why", "check": "c",
    }  # fmt: skip


def test_averages() -> None:
    good = scores("70.0 72.0 70.0 72.0 70.0 72.0 70.0 72.1", "71.0", method="a")  # 71.0125
    # One task of eight misread by a tenth moves the mean by 0.0125: an average that only unrounded scores give.
    close = scores("70.0 72.0 70.0 72.0 70.0 72.0 70.0 72.5", "71.0", method="b")  # 71.0625
    wrong = scores("70.0", "71.2", method="c")
    found = row_averages("smt_table2_x", [good, close, wrong])
    assert verdicts(found) == ["agrees", "agrees within rounding", "differs by 1.2"]
    assert (found[2].table, found[2].row, found[2].printed) == ("SMT table 2", "c", D("71.2"))
    assert row_averages("smt_table2_x", [scores("70.0", "", method="no average")]) == []
    blank = {**scores("70.0", "70.0", method="d"), "piqa": ""}
    assert row_averages("smt_table2_x", [blank]) == []


def test_speedups() -> None:
    rows = [
        {"model": "m", "method": name, "time_s": time, "speedup": times}
        for name, time, times in (("full", "100.0", "1"), ("a", "10.0", "10.0"), ("b", "3.00", "33.0"))
    ]
    assert verdicts(speedups("smt_table1_x", rows)) == ["agrees", "differs by 0.3"]


def test_identical_rows() -> None:
    one, two = scores("70.1", "70.1", model="a"), scores("70.2", "70.2", model="b")
    (passed,) = repeats.identical_rows("smt_table2_x", [one, two])
    assert passed.verdict == "agrees"
    (caught,) = repeats.identical_rows("smt_table2_x", [one, two, {**one, "model": "c"}])
    assert caught.verdict == "identical" and caught.row == "a = c"
    assert repeats.identical_rows("smt_table3_x", [{"model": "a", "avg": "1.0"}] * 2) == []  # an average alone repeats


def test_the_same_configuration_in_two_tables() -> None:
    places = tuple((name, (("method", "smt"),)) for name in ("smt_table2_x", "smt_table3_x", "smt_table9_x"))
    same = repeats.Configuration("smt", places)
    tables: dict[str, list[Row]] = {
        "smt_table2_x": [scores("78.7", "78.7", method="smt")],
        "smt_table3_x": [{"method": "smt", "avg": "78.66"}],
    }
    assert verdicts(repeats.same_configuration(tables, same)) == ["agrees"]  # table 9 is not there
    tables["smt_table3_x"] = [{"method": "smt", "avg": "78.6"}]
    tables["smt_table9_x"] = [{**scores("78.7", "78.7", method="smt"), "piqa": "70.0"}]
    found = repeats.same_configuration(tables, same)
    assert verdicts(found) == ["differs by 0.1 from SMT table 2", "differs by 8.7 from SMT table 2"]
    assert [f.column for f in found] == ["avg", "piqa"]


def plateau(*cells: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"model": "m", "method": "lora", "params_pct": p, "avg": a, "marked_best": b} for p, a, b in cells]


def test_best_marks_and_rows() -> None:
    right = plateau(("0.4", "70.0", "0"), ("0.8", "72.0", "1"))
    wrong = plateau(("0.4", "72.1", "0"), ("0.8", "72.0", "1"))
    assert verdicts(marks.best_marks("smt_table3_x", right)) == ["agrees"]
    assert verdicts(marks.best_marks("smt_table3_x", wrong)) == ["differs by 0.1"]
    rows = [
        {"model": "m", "method": "lora(best)", "params_pct": "0.8", "avg": "72.0"},
        {"model": "n", "method": "lora(best)", "params_pct": "0.8", "avg": "72.0"},
        {"model": "m", "method": "lora", "params_pct": "0.8", "avg": "1.0"},
    ]
    found = marks.best_rows("smt_table2_x", rows, "smt_table3_x", right)
    assert verdicts(found) == ["agrees", "cannot be told: not in SMT table 3"]
    found = marks.best_rows("smt_table2_x", rows[:1], "smt_table3_x", wrong)
    assert verdicts(found) == ["differs by 0.1 from the best, at 0.4 %"]


def test_metrics_that_must_rank_equally_give_a_bound_on_the_noise() -> None:
    equal = [scores("70.0", "70.00", metric=name) for name in noise.EQUAL_RANKS]
    assert set(verdicts(noise.equal_rankings("smt_table7_x", equal))) == {"agrees"}
    assert noise.bound(equal) == 0
    apart = [equal[0], {**scores("71.5", "71.50", metric="abs_sum"), "piqa": "70.0"}]
    found = noise.equal_rankings("smt_table7_x", apart)
    assert len(found) == 9 and sum(f.holds is False for f in found) == 8
    assert found[-1].verdict == "noise of at least 1.50" and noise.bound(apart) == D("1.50")
    assert noise.equal_rankings("smt_table7_x", apart[:1]) == [] and noise.bound(apart[:1]) is None


def test_mean_and_sum_over_256_square_blocks_rank_equally_even_in_bf16() -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    sums = (torch.rand(2000, generator=generator) + 1).bfloat16()  # many ties and near ties
    means = sums / 256**2
    assert torch.equal(sums.argsort(stable=True), means.argsort(stable=True))
    assert len(set(sums.tolist())) == len(set(means.tolist()))


def test_differences_against_the_noise() -> None:
    tables = {"smt_table2_x": [{"method": m, "avg": a} for m, a in (("a", "80.0"), ("b", "79.0"), ("c", "70.0"))]}
    a, b, c = (cell("smt_table2_x", method=m) for m in "abc")
    pairs = [
        noise.Rivals("a over b and c", a, (b, c)),
        noise.Rivals("b over c", b, (c,)),
        noise.Rivals("b over c elsewhere", b, (c,), same_setting=False),
        noise.Rivals("not printed", cell("smt_table2_x", method="d"), (c,)),
    ]
    found = noise.within_noise(tables, pairs, D("1.4"))
    assert [f.holds for f in found] == [False, True, None]
    assert (found[0].printed, found[0].computed, found[0].verdict) == (D("1.0"), D("1.4"), "within the noise")


def test_absolute_values_and_squares_are_not_equivalent() -> None:
    assert noise.rank_conflict((1, 1, 1), (2, 0, 0)).verdict == "not equivalent"
    assert noise.rank_conflict((1, 1), (2, 2)).verdict == "agrees"


def test_shares_of_a_number_of_questions() -> None:
    assert granularity.nearest_share(D("45.6"), 500) == (D("45.6"), True)
    assert granularity.nearest_share(D("45.7"), 500)[1] is False
    assert granularity.nearest_share(D("23.6"), 254)[1]  # 60 of 254 = 23.62
    assert granularity.nearest_share(D("18.8"), 254)[1]  # 48 of 254 = 18.898, cut
    assert not granularity.nearest_share(D("18.6"), 254)[1]
    rows = [{"method": m, "obqa": v} for m, v in (("a", "79.0"), ("b", "79.1"), ("c", ""))]
    found = granularity.shares("smt_table2_x", rows)
    assert verdicts(found) == ["no whole number of 500 questions", "agrees"]
    assert found[0].row == "b" and found[1].row == "1 of 2 rows"


def test_below_a_constant_answer() -> None:
    rows = [{"method": m, "boolq": v} for m, v in (("a", "62.0"), ("b", "62.1"), ("c", "80.0"))]
    found = granularity.constant_answers("smt_table8_x", rows)
    assert verdicts(found) == ["below a constant answer", "agrees"]  # 62.1 may be 62.17, cut
    assert found[0].row == "a" and found[1].row == "2 of 3 cells"


def test_labels() -> None:
    assert title("smt_table10_warmup") == "SMT table 10" and title("spiel_table1_main") == "SpIEL table 1"
    assert title("smt_figure11_memory") == "SMT figure 11" and title("smt_appendix_i_projection") == "SMT appendix I"
    row = {"model": "llama-7b", "method": "smt", "params_pct": "0.84", "avg": "78.7"}
    assert label(row) == "llama-7b smt 0.84 %"
    assert label({"block_size": "64", "avg": "1"}) == "block_size 64"

"""Each kind of statement on made-up tables: one that must be caught, one that must pass, one that cannot be told."""

from __future__ import annotations

from decimal import Decimal

import pytest

from smt_bench.audit.checks.noise import METRICS
from smt_bench.audit.finding import Interval
from smt_bench.audit.printed import COMMONSENSE, Row, cell
from smt_bench.audit.statements import kinds as s
from smt_bench.audit.statements import orders as o
from smt_bench.audit.statements import spiel
from smt_bench.audit.statements.code import CODE, Released
from smt_bench.questions.recipes import RECIPES

D = Decimal
WHERE = ("paper section 1", "a few words", "what")


def row(name: str, average: str, score: str = "70.0", **more: str) -> dict[str, str]:
    return {"method": name, **dict.fromkeys(COMMONSENSE, score), "avg": average, **more}


TABLES: dict[str, list[Row]] = {
    "t": [row("a", "80.0", "80.0"), row("b", "78.0", "78.0"), row("c", "79.9", "75.0")],
    "steps": [row("30", "70.0", "78.0", steps="30"), row("100", "71.0", "81.0", steps="100")],
    METRICS: [row("", "75.2", metric="abs_sum"), row("", "73.8", metric="abs_mean")],
}
A, B, C, NONE = (cell("t", method=m) for m in "abcx")


@pytest.mark.parametrize(
    ("statement", "verdict"),
    [
        (s.Amounts(*WHERE, D("0.5"), Interval.exact(D("0.4999"))), "agrees"),
        (s.Amounts(*WHERE, D("99.5"), Interval.exact(100) - Interval.of(D("4.91"))), "differs by 4.4"),
        (s.Difference(*WHERE, D("2.0"), A, B), "agrees"),
        (s.Difference(*WHERE, D("2.5"), A, B), "differs by 0.5"),
        (s.Difference(*WHERE, D("2.0"), A, NONE), "cannot be told: not in the tables"),
        (s.MeanDifference(*WHERE, D("2.0"), A, B), "agrees"),
        (s.MeanDifference(*WHERE, D("0.1"), A, C), "differs by 4.9"),
        (s.Ratio(*WHERE, D("1.03"), A, B), "agrees"),
        (s.Ratio(*WHERE, D("1.5"), A, B), "differs by 0.5"),
        (s.Equal(*WHERE, D("80"), A), "agrees"),
        (s.Equal(*WHERE, D("80.1"), A), "differs by 0.1 from t"),
        (s.Similar(*WHERE, A, C), "agrees"),
        (s.Similar(*WHERE, A, B), "differs by 2.0"),
        (s.SameRow(*WHERE, D(30), B, "steps", "steps"), "agrees"),
        (s.SameRow(*WHERE, D(25), B, "steps", "steps"), "differs by 5: the row of steps"),
        (s.SameRow(*WHERE, D(25), A, "steps", "steps"), "cannot be told: not in the tables"),
        (s.Below(*WHERE, D(100), Interval.exact(99)), "agrees"),
        (s.Below(*WHERE, D(100), Interval.exact(100)), "not below 100"),
        (s.Below(*WHERE, D(3), Interval.of(D("3.0"))), "cannot be told: within rounding"),
        (s.AtMost(*WHERE, D("1.5"), D("1.5"), "another cause"), "agrees"),
        (s.AtMost(*WHERE, D("14.6"), D("1.5"), "another cause"), "cannot be told: another cause"),
        (o.AtLeast(*WHERE, D("2"), ((A, B),)), "agrees"),
        (o.AtLeast(*WHERE, D("2"), ((A, B), (A, C))), "differs by 1.9"),
        (o.Ahead(*WHERE, "always", ((A, B), (C, B))), "agrees"),
        (o.Ahead(*WHERE, "always", ((A, B), (B, C))), "not in 1: avg 78.0 to 79.9"),
        (o.Ahead(*WHERE, "always", ((A, A),)), "not in 1: avg 80.0 to 80.0"),  # a tie is no lead
        (o.Ahead(*WHERE, "cheaper", ((B, A),), lower=True), "agrees"),
        (o.Unsurpassed(*WHERE, "no better", A, (B, C, A)), "agrees"),  # the same is no gain
        (o.Unsurpassed(*WHERE, "no better", C, (B, A)), "not so: 79.9 to 80.0"),
        (o.Rises(*WHERE, "rises", (B, C, A)), "agrees"),
        (o.Rises(*WHERE, "rises", (B, A, C)), "falls from 80.0 to 79.9"),
        (o.Best(*WHERE, "100", "steps", "steps"), "agrees"),
        (o.Best(*WHERE, "30", "steps", "steps"), "is number 2 of 2"),
        (o.Best(*WHERE, "50", "steps", "steps"), "cannot be told: not in the tables"),
    ],
)
def test_statements(statement: s.Statement, verdict: str) -> None:
    found = statement.check(TABLES)
    assert found.verdict == verdict
    assert (found.table, found.row, found.column) == ("paper section 1", '"a few words"', "what")


def main_table(**changes: str) -> list[dict[str, str]]:
    """SpIEL's table 1 in which SpIEL-AG leads everywhere, but for what `changes` says of its 7B row."""
    rows = []
    for model in ("llama2-7b", "llama2-13b"):
        for method, score in (("original", "10.0"), ("ia3", "20.0"), ("lora", "30.0"), ("spiel-ag", "40.0")):
            columns = (c for names in spiel.DATA_SETS.values() for c in names)
            rows.append({"model": model, "method": method, **dict.fromkeys(columns, score), "composed_humaneval": ""})
    rows[3] |= changes
    return rows


def test_combinations_of_model_and_data_set() -> None:
    lead = main_table()
    assert spiel.combinations_ahead(spiel.T1, lead, D(6), "every").verdict == "agrees"
    mixed = main_table(tulu2_gsm="29.0")  # still ahead in the mean of five benchmarks
    assert spiel.combinations_ahead(spiel.T1, mixed, D(6), "mean").verdict == "agrees"
    assert spiel.combinations_ahead(spiel.T1, mixed, D(6), "every").verdict == "differs by 1"


def test_most_columns() -> None:
    ours, theirs = ("spiel-ag",), ("ia3", "lora")
    found = spiel.most_ahead({spiel.T1: main_table()}, (spiel.T1,), ours, theirs)
    assert (found.verdict, found.computed) == ("agrees", "16 of 16")
    low = main_table()
    for r in low:
        if r["method"] == "lora":
            r |= dict.fromkeys([c for c in r if c.startswith("tulu2")], "90.0")
    found = spiel.most_ahead({spiel.T1: low}, (spiel.T1,), ours, theirs)
    assert (found.verdict, found.computed) == ("not most", "6 of 16")


def test_margins_with_and_without_quantization() -> None:
    columns = [c for name in ("Flan v2", "GPT4-Alpaca") for c in spiel.DATA_SETS[name]]

    def quantized(score: str) -> list[dict[str, str]]:
        return [
            {"model": model, "method": method, **dict.fromkeys(columns, value)}
            for model in ("llama2-7b", "llama2-13b")
            for method, value in (("qlora", "20.0"), ("qspiel-ag", score))
        ]

    higher = spiel.higher_margins({spiel.T1: main_table(), spiel.T2: quantized("30.1")})
    assert [f.verdict for f in higher] == ["agrees", "agrees", "cannot be told: not in table 2"]
    lower = spiel.higher_margins({spiel.T1: main_table(), spiel.T2: quantized("29.0")})
    assert [f.holds for f in lower] == [False, False, None]


def test_chosen_hyper_parameters_against_the_grid() -> None:
    def one(method: str, lr: str, rank: str, decay: str) -> list[str]:
        rows = [{"model": "m", "method": method, "learning_rate": lr, "rank": rank, "weight_decay": decay}]
        return [f.verdict for f in spiel.searched(spiel.T4, rows)]

    assert one("spiel-ma", "7e-4", "32", "0") == ["agrees"] * 3
    assert one("spiel-ag", "2e-4", "64", "") == ["not in the grid", "cannot be told: at the end of the grid"]
    assert one("full", "2e-5", "", "") == []


def test_the_untouched_model_has_one_score_per_benchmark() -> None:
    assert {f.verdict for f in spiel.repeated_base(spiel.T1, main_table())} == {"agrees"}
    rows = main_table()
    rows[0]["tulu2_mmlu"] = "10.1"
    assert [f.holds for f in spiel.repeated_base(spiel.T1, rows)].count(False) == 1


def test_released_code_agrees_only_where_it_does_what_the_text_says() -> None:
    same, other = Released(*WHERE, D(256), D("256.0")), Released(*WHERE, D(256), D(2048), "so")
    assert [r.check({}).verdict for r in (same, other)] == ["agrees", "contradicts the text: so"]
    assert other.check({}).check == "released code" and (other.check({}).printed, other.check({}).computed) == (
        256,
        2048,
    )


def test_the_contradictions_of_text_and_released_code() -> None:
    found = {f.column: f for f in (statement.check({}) for statement in CODE)}
    assert len(found) == len(CODE)
    wrong = " ".join(f"{f.column}: {f.verdict}; " for f in found.values() if f.holds is False)
    for what in (
        "learning rate, LLaMA-7B",
        "betas",
        "examples per step",
        "tokens per example",
        "loss on",
        "validation",
        "schedule",
        "prompt",
        "repetition penalty",
        "never reaches attention",
        "53.2 % is no evidence",
        "train or judge on math",
    ):
        assert what in wrong, what
    agreed = {column for column, f in found.items() if f.holds}
    assert agreed >= {"weight decay", "epochs", "beams", "side of a block"}
    r = RECIPES["paper-code"]
    recipe = {
        "learning rate": r.lr("smt"), "examples per step": r.batch_size, "tokens per example": r.cutoff,
        "repetition penalty": r.repetition_penalty, "new tokens per answer": r.max_new_tokens, "beams": r.beams,
    }  # fmt: skip
    for start, value in recipe.items():  # the recipe paper-code and the audit speak of the same scripts
        (line,) = [f for column, f in found.items() if column.startswith(start + ",") or column == start]
        assert float(line.computed or 0) == value

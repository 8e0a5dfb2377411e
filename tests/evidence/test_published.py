"""Published numbers: beside ours where the question is the same, and nowhere else."""

from __future__ import annotations

import csv

import pytest
from made_up import EIGHT, record
from papers import PAPERS, cells

from smt_bench.report.accuracy.by_fraction import table3
from smt_bench.report.accuracy.by_task import table2
from smt_bench.report.accuracy.plateau import write_plateau


def whole(seed: int) -> dict[str, list[int]]:
    """Test sets of different sizes, as whole ones have: 50 % right, or all."""
    return {task: [1, seed] * (i + 1) for i, task in enumerate(EIGHT)}


def test_published_values_stand_beside_ours():
    right = {task: [1, 0] for task in EIGHT}
    records = [record("smt", 0.84, 0, right, **PAPERS), record("full", None, 0, right, **PAPERS)]
    records += [record("lora", 0.5, 0, right, **PAPERS)]
    table = table3(records, "llama-7b")
    shown = cells(table)
    assert shown["SMT"]["0.84 %"] == "50.0 (78.6)" and shown["SMT"]["4.91 %"] == "(81.4)"
    assert shown["full"]["100 %"] == "50.0 (81.4)"
    assert shown["LoRA"]["0.5 %"] == "50.0" and "No published" not in table.to_markdown()
    assert shown["SMT − published"]["0.84 %"] == "-28.6"  # one seed says nothing about one more run
    assert shown["SMT − published"]["4.91 %"] == "" and "LoRA − published" not in shown
    lines = {(r["method"], r["fraction_pct"]): r for r in csv.DictReader(table.to_csv().split("\n"))}
    assert lines["smt", "0.84"]["published"] == "78.6" and lines["full", ""]["published"] == "81.4"
    assert float(lines["smt", "0.84"]["minus_published"]) == pytest.approx(-28.6)
    assert lines["smt", "4.91"]["accuracy"] == lines["lora", "0.5"]["published"] == ""
    seeds = table3([record("smt", 0.84, s, whole(s), **PAPERS) for s in (0, 1)], "llama-7b")
    half = 12.7062 * (50 / 2**0.5) * (1 + 1 / 2) ** 0.5  # for one more run: t s sqrt(1 + 1/S)
    assert cells(seeds)["SMT − published"]["0.84 %"] == f"-3.6 ± {half:.1f}"
    assert "it stands on the same test examples" in seeds.to_markdown()


def test_a_cut_test_set_adds_the_noise_of_its_examples():
    """--limit draws as many examples of every task, which whole test sets never have."""
    cut = [record("smt", 0.84, s, {t: [1, s] * 10 for t in EIGHT}, **PAPERS) for s in (0, 1)]
    table = table3(cut, "llama-7b")
    over_examples = 100**2 * 0.25 * (0.5**2) / 20 * 20 / 19 / 8  # answers averaged over seeds: 1 and 1/2
    half = 12.7062 * (50**2 / 2 * (1 + 1 / 2) + 2 * over_examples) ** 0.5
    assert cells(table)["SMT − published"]["0.84 %"] == f"-3.6 ± {half:.1f}"
    assert "and for other test examples" in table.to_markdown()


@pytest.mark.parametrize(
    ("model", "protocol", "tasks", "why"),
    [
        ("llama-7b", "likelihood", EIGHT, "under protocol llm-adapters (here: likelihood)"),
        ("llama-7b", "llm-adapters", EIGHT[:2], "over other tasks"),
        ("tiny", "llm-adapters", EIGHT, "the paper has none for this model"),
    ],
)
def test_published_values_of_other_questions_are_not_shown(model, protocol, tasks, why, tmp_path):
    records = [record("smt", 0.84, 0, {t: [1, 0] for t in tasks}, model=model, protocol=protocol)]
    for table in (table3(records, model), table2(records, model)):
        text = table.to_markdown()
        assert "78.6" not in text and "78.7" not in text and "(published)" not in text and "− published" not in text
        assert sum(note.startswith("No published numbers") and why in note for note in table.notes) == 1
    assert not any(r["published"] for r in csv.DictReader(table3(records, model).to_csv().split("\n")))
    write_plateau(records, tmp_path, model, "smt")
    assert "published" not in (tmp_path / "figure9.svg").read_text()


def test_published_curves_are_drawn_where_they_are_comparable(tmp_path):
    write_plateau([record("smt", 0.84, 0, {t: [1, 0] for t in EIGHT}, **PAPERS)], tmp_path, "llama-7b", "smt")
    assert "published" in (tmp_path / "figure9.svg").read_text()


def test_table2_published_rows_and_differences():
    right = {task: [1, 0] for task in EIGHT}
    table = table2([record("smt", 0.84, 0, right, **PAPERS)], "llama-7b")
    titles = ["BoolQ", "PIQA", "SIQA", "HellaSwag", "WinoGrande", "ARC-e", "ARC-c", "OBQA", "AVG"]
    assert list(table.header[3:]) == titles
    assert table.rows[1] == [
        "SMT (published)", "(0.84 %)", "",
        "(68.7)", "(81.7)", "(78.3)", "(91.6)", "(78.8)", "(84.1)", "(68.7)", "(77.4)", "(78.7)",
    ]  # fmt: skip
    assert table.rows[2][0] == "SMT − published"
    assert table.rows[2][3] == "-18.7"
    several = table2([record("smt", 0.84, s, whole(s), **PAPERS) for s in (0, 1)], "llama-7b")
    assert several.rows[2][-1] == f"-3.7 ± {12.7062 * 50 * (3 / 4) ** 0.5:.1f}"


def test_weights_of_a_models_name_are_not_the_model(tmp_path):
    """A folder called llama-7b may hold anything."""
    records = [record("smt", 0.84, 0, {t: [1, 0] for t in EIGHT}, **PAPERS, weights="local")]
    for table in (table3(records, "llama-7b"), table2(records, "llama-7b")):
        assert "78.6" not in table.to_markdown() and "68.7" not in table.to_markdown()
        told = "No published numbers: those of this model are on the hub's llama-7b (here: local weights of that name)."
        assert told in table.notes
    write_plateau(records, tmp_path, "llama-7b", "smt")
    assert "published" not in (tmp_path / "figure9.svg").read_text()

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from made_up import EIGHT, record, sweep

from smt_bench.evidence.cells import summarise
from smt_bench.evidence.pairs import verdicts
from smt_bench.experiments.accuracy import plateau
from smt_bench.report.accuracy.by_fraction import table3, table3_heldout
from smt_bench.report.accuracy.by_task import table2
from smt_bench.report.accuracy.pairs import comparisons
from smt_bench.report.accuracy.plateau import write_plateau
from smt_bench.report.table import Table

HALF = {"boolq": [1, 0, 1, 0], "piqa": [1, 0]}


def row(frame, method, pct=None):
    found = frame[
        (frame["method"] == method) & (frame["fraction_pct"].isna() if pct is None else frame["fraction_pct"] == pct)
    ]
    assert len(found) == 1
    return found.iloc[0]


def cells(table: Table) -> dict[str, dict[str, str]]:
    return {str(r[0]): dict(zip(table.header[1:], r[1:])) for r in table.rows}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def three_seeds() -> list[dict]:
    # Macro averages 50, 62.5 and 75 %.
    right = [HALF, {"boolq": [1, 1, 1, 0], "piqa": [1, 0]}, {"boolq": [1, 1, 0, 0], "piqa": [1, 1]}]
    return [record("smt", 1.0, s, right[s], nll=[1.0, 1.2, 1.1][s]) for s in range(3)]


def test_summary_against_hand_computation():
    line = row(summarise(three_seeds()), "smt", 1.0)
    assert line["accuracy"] == pytest.approx((50 + 62.5 + 75) / 3)
    assert line["ci95"] == pytest.approx(4.30265 * 12.5 / 3**0.5, rel=1e-5)
    assert line["heldout_nll"] == pytest.approx(1.1)
    assert line["heldout_nll_ci95"] == pytest.approx(4.30265 * 0.1 / 3**0.5, rel=1e-5)
    assert (line["n_seeds"], line["n_examples"], line["n_heldout"]) == (3, 6, 4)
    assert (line["capacity_unit"], line["capacity"], line["trainable_pct"]) == ("blocks", 10100, pytest.approx(1.01))
    assert line["tasks"] == ("boolq", "piqa") and len(line["keys"]) == 3
    one = row(summarise([record("smt", 1.0, 0, HALF, unparsed=1)]), "smt", 1.0)
    assert one["stderr"] == pytest.approx(100 * ((0.25 / 4 + 0.25 / 2) ** 0.5) / 2)
    assert one["format_failure_pct"] == pytest.approx(100 * (1 / 4 + 1 / 2) / 2)
    assert one[["ci95", "heldout_nll", "heldout_nll_ci95"]].isna().all()


def test_order_of_records_does_not_matter():
    records = sweep("llama-7b", (0.43, 0.84), 3, n=20)
    shuffled = random.Random(0).sample(records, len(records))
    for make in (
        lambda r: table3(r, "llama-7b"),
        lambda r: table2(r, "llama-7b"),
        lambda r: comparisons(r, "m", "smt"),
    ):
        assert make(records).to_markdown() == make(shuffled).to_markdown()
        assert make(records).to_csv() == make(shuffled).to_csv()


def test_average_covers_only_the_tasks_that_all_runs_have():
    few = record("lora", 1.0, 0, {"boolq": [1, 1]})
    frame = summarise([record("smt", 1.0, 0, HALF), few])
    assert set(frame["tasks"]) == {("boolq",)} and row(frame, "smt", 1.0)["n_examples"] == 4
    table = table2([record("smt", 1.0, 0, HALF), few], "tiny")
    assert list(table.header) == ["method", "parameters", "seeds", "BoolQ", "AVG"]
    assert "1 task (BoolQ)" in table.to_markdown()


def test_best_marks():
    up, down = {"boolq": [1, 1, 1, 0]}, {"boolq": [1, 0, 0, 0]}
    records = [record("smt", 1.0, 0, down), record("smt", 2.0, 0, up)]
    records += [record("lora", 1.0, 0, up), record("lora", 2.0, 0, down), record("full", None, 0, up)]
    shown = cells(table3(records, "tiny"))
    assert shown["SMT"] == {"1 %": "25.0", "2 %": r"**75.0**\*", "100 %": ""}
    assert shown["LoRA"] == {"1 %": r"**75.0**\*", "2 %": "25.0", "100 %": ""}
    assert shown["full"] == {"1 %": "", "2 %": "", "100 %": "75.0"}  # no rival, no mark
    best = {
        (r["method"], r["fraction_pct"]): r["best"]
        for r in csv.DictReader(table3(records, "tiny").to_csv().split("\n"))
    }
    assert best == {("lora", "1"): "1", ("lora", "2"): "0", ("smt", "1"): "0", ("smt", "2"): "1", ("full", ""): "0"}
    ties = cells(table3([record("smt", 1.0, 0, up), record("smt", 2.0, 0, up)], "tiny"))
    assert ties["SMT"] == {"1 %": r"75.0\*", "2 %": r"75.0\*"}


def test_heldout_marks_the_lowest():
    records = [record("smt", pct, 0, HALF, nll=nll) for pct, nll in ((1.0, 1.5), (2.0, 1.25))]
    assert cells(table3_heldout(records, "tiny"))["SMT"] == {"1 %": "1.5000", "2 %": r"1.2500\*"}


def test_interval_and_seed_counts_are_shown():
    same = table3(three_seeds(), "tiny")
    assert cells(same)["SMT"] == {"1 %": "62.5 ± 31.1"} and "3 seeds per trained cell" in same.to_markdown()
    mixed = cells(table3([*three_seeds(), record("lora", 1.0, 0, HALF), record("base", None, 0, HALF)], "tiny"))
    assert mixed["SMT"]["1 %"] == "**62.5 ± 31.1** n=3" and mixed["LoRA"]["1 %"] == "50.0 n=1"
    assert mixed["base"]["0 %"] == "50.0"


def test_lost_runs_are_shown_and_blank():
    records = [*three_seeds()[:2], record("smt", 1.0, 2, HALF, status="diverged")]
    records += [record("lora", 1.0, s, HALF, status="diverged") for s in (0, 1)]
    records += [record("dora", 1.0, 0, HALF, status="failed"), record("dora", 1.0, 1, HALF, status="out_of_memory")]
    table = table3(records, "tiny")
    shown = cells(table)
    assert shown["SMT"]["1 %"] == "56.2 ± 79.4 [1 diverged]"
    assert shown["LoRA"]["1 %"] == "diverged" and shown["DoRA"]["1 %"] == "1 failed, 1 out of memory"
    assert "LoRA 1 % seed 1 diverged (step 7)" in table.to_markdown()
    lines = {r["method"]: r for r in csv.DictReader(table.to_csv().split("\n"))}
    assert (lines["smt"]["diverged"], lines["lora"]["diverged"], lines["dora"]["failed"]) == ("1", "2", "2")
    for name in (
        "accuracy",
        "ci95",
        "stderr",
        "n_examples",
        "heldout_nll",
        "format_failure_pct",
        "best",
        "trainable_pct",
    ):
        assert lines["lora"][name] == "", name
    assert lines["lora"]["n_seeds"] == "0"


def test_only_the_newest_settings_of_a_cell_count():
    old = record("smt", 1.0, 0, {"boolq": [0, 0], "piqa": [0, 0]}, lr=1e-5, started="2026-01-01T00:00:00+00:00")
    new = record("smt", 1.0, 1, HALF)
    table = table3([new, old], "tiny")
    assert cells(table)["SMT"]["1 %"] == "50.0"
    assert f"older runs with other settings (train.lr) left out: {old['key']}" in table.to_markdown()


def test_settings_that_differ_between_methods_are_named():
    text = table3([record("smt", 1.0, 0, HALF), record("spiel", 1.0, 0, HALF, weight_decay=30.0)], "tiny").to_markdown()
    assert "train.weight_decay is 30.0 (SpIEL 1 %); 0.0 (SMT 1 %)" in text


@pytest.mark.parametrize("change", [{"model": "other"}, {"tests": "other"}])
def test_what_cannot_be_compared_is_refused(change):
    with pytest.raises(ValueError, match="differ in"):
        summarise([record("smt", 1.0, 0, HALF), record("lora", 1.0, 0, HALF, **change)])


PAPERS = {"model": "llama-7b", "protocol": "llm-adapters"}


def test_published_values_stand_beside_ours():
    right = {task: [1, 0] for task in EIGHT}
    records = [record("smt", 0.84, 0, right, **PAPERS), record("full", None, 0, right, **PAPERS)]
    records += [record("lora", 0.5, 0, right, **PAPERS)]
    table = table3(records, "llama-7b")
    shown = cells(table)
    assert shown["SMT"]["0.84 %"] == "50.0 (78.6)" and shown["SMT"]["4.91 %"] == "(81.4)"
    assert shown["full"]["100 %"] == "50.0 (81.4)"
    assert shown["LoRA"]["0.5 %"] == "50.0" and "No published" not in table.to_markdown()
    # One seed: 1.96 standard errors over examples, eight tasks of two examples at one half.
    half = 1.96 * 100 * (8 * 0.25 / 2) ** 0.5 / 8
    assert shown["SMT − published"]["0.84 %"] == f"-28.6 [{-28.6 - half:+.1f}, {-28.6 + half:+.1f}]"
    assert shown["SMT − published"]["4.91 %"] == "" and "LoRA − published" not in shown
    lines = {(r["method"], r["fraction_pct"]): r for r in csv.DictReader(table.to_csv().split("\n"))}
    assert lines["smt", "0.84"]["published"] == "78.6" and lines["full", ""]["published"] == "81.4"
    assert float(lines["smt", "0.84"]["minus_published"]) == pytest.approx(-28.6)
    assert lines["smt", "4.91"]["accuracy"] == lines["lora", "0.5"]["published"] == ""
    seeds = table3([record("smt", 0.84, s, {t: [1, s] for t in EIGHT}, **PAPERS) for s in (0, 1)], "llama-7b")
    assert cells(seeds)["SMT − published"]["0.84 %"] == f"-3.6 ± {12.7062 * 50 / 2:.1f}"


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


def test_weights_of_a_models_name_are_not_the_model(tmp_path):
    """A folder called llama-7b may hold anything."""
    records = [record("smt", 0.84, 0, {t: [1, 0] for t in EIGHT}, **PAPERS, weights="local")]
    for table in (table3(records, "llama-7b"), table2(records, "llama-7b")):
        assert "78.6" not in table.to_markdown() and "68.7" not in table.to_markdown()
        told = "No published numbers: those of this model are on the hub's llama-7b (here: local weights of that name)."
        assert told in table.notes
    write_plateau(records, tmp_path, "llama-7b", "smt")
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
    half = 196 * (0.25 / 2) ** 0.5
    assert table.rows[2][0] == "SMT − published"
    assert table.rows[2][3] == f"-18.7 [{-18.7 - half:+.1f}, {-18.7 + half:+.1f}]"
    several = table2([record("smt", 0.84, s, {t: [1, s] for t in EIGHT}, **PAPERS) for s in (0, 1)], "llama-7b")
    assert several.rows[2][-1] == f"-3.7 ± {12.7062 * 25:.1f}"


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


def test_files_and_csv_round_trip(tmp_path):
    records = sweep("llama-7b", (0.43, 0.84), 2, n=30, protocol="llm-adapters")
    records.append(record("lora", 4.91, 0, dict.fromkeys(EIGHT, [1]), status="diverged", **PAPERS))
    files = plateau.render(records, tmp_path, "llama-7b")
    assert files[0].name == "table3.md" and {f.name for f in files} == {p.name for p in tmp_path.iterdir()}
    text = {"method", "versus", "source", "capacity_unit", "keys", "verdict", "nll_verdict"}
    text |= {"claim", "ahead", "behind", "equal", "denied", "control"}
    for path in (f for f in files if f.suffix == ".csv"):
        lines = read(path)
        assert lines, path
        for line in lines:
            assert None not in line and None not in line.values()
            for name in line.keys() - text:
                assert line[name] == "" or float(line[name]) == float(line[name]), (path, name, line[name])
    summary = summarise(records)
    for line in read(tmp_path / "table3.csv"):
        pct = float(line["fraction_pct"]) if line["fraction_pct"] else None
        if line["accuracy"]:
            assert float(line["accuracy"]) == pytest.approx(row(summary, line["method"], pct)["accuracy"])
            assert line["keys"].split() == row(summary, line["method"], pct)["keys"]


@pytest.mark.parametrize(
    "records",
    [
        [record("smt", 1.0, 0, HALF)],
        [record("full", None, 0, HALF, nll=1.0)],
        [record("base", None, 0, HALF)],
        [record("lora", 1.0, 0, status="diverged"), record("full", None, 0, status="failed")],
        [record("house-made", 1.0, 0, HALF, nll=1.0), record("other", None, 0, HALF), record("smt", 1.0, 0, HALF)],
        [record("smt", 1.0, 0, {"a task of theirs": [1, 0]})],
        [record("smt", 1.0, 0, {"boolq": [1]}), record("lora", 1.0, 0, {"piqa": [1]})],
    ],
)
@pytest.mark.parametrize("model", ["tiny", "llama-7b"])
def test_partly_finished_sweeps(records, model, tmp_path):
    files = plateau.render(records, tmp_path, model)
    assert all(f.stat().st_size > 0 for f in files)
    markdown = "".join(f.read_text() for f in files if f.suffix in (".md", ".csv"))
    assert "nan" not in markdown.lower() and "None" not in markdown


def test_nothing_to_report(tmp_path):
    with pytest.raises(ValueError, match="no records"):
        write_plateau([], tmp_path, "tiny", "smt")
    assert not list(tmp_path.iterdir())


def test_markdown_is_aligned_and_escaped():
    table = Table("T", ["a|b", "n"], [["x", 1.5], ["two\nlines", None]], ["note"])
    assert table.to_markdown() == (
        "## T\n\n| a\\|b      |   n |\n| --------- | --: |\n| x         | 1.5 |\n| two lines |     |\n\n- note\n"
    )
    assert table.to_csv() == 'a|b,n\nx,1.5\n"two\nlines",\n'


def test_untouched_model_is_evaluated_once_and_paired_with_every_seed():
    records = [*three_seeds(), record("base", None, 0, HALF), record("full", None, 0, HALF)]
    frame = summarise(records)
    assert not row(frame, "base")["trained"] and row(frame, "base")["ci95"] != row(frame, "base")["ci95"]
    text = table3(records, "tiny").to_markdown()
    assert "base: nothing is trained, evaluated once" in text and "Learning rates: SMT 0.003, full 0.001." in text
    assert set(verdicts(records, "smt")["versus"]) == {"full"}  # what trains nothing is no rival, the tables show it

"""Tables and figures of a sweep, from made-up records."""

from __future__ import annotations

import csv
import random

import pytest
from made_up import EIGHT, record, sweep
from papers import HALF, PAPERS, cells, read

from smt_bench.evidence.cells import groups, summarise
from smt_bench.evidence.decisions import Margins, using
from smt_bench.evidence.pairs import verdicts
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.report import notes
from smt_bench.report.accuracy.by_fraction import table3, table3_heldout
from smt_bench.report.accuracy.by_task import table2
from smt_bench.report.accuracy.pairs import comparisons
from smt_bench.report.accuracy.plateau import write_plateau
from smt_bench.report.accuracy.plateau_verdict import plateau_table
from smt_bench.report.table import Table


def row(frame, method, pct=None):
    found = frame[
        (frame["method"] == method) & (frame["fraction_pct"].isna() if pct is None else frame["fraction_pct"] == pct)
    ]
    assert len(found) == 1
    return found.iloc[0]


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
    assert (line["n_seeds"], line["n_examples"], line["n_heldout"]) == (3, 6, 24)
    assert (line["capacity_unit"], line["capacity"], line["trainable_pct"]) == ("blocks", 10100, pytest.approx(1.01))
    assert line["tasks"] == ("boolq", "piqa") and len(line["keys"]) == 3
    one = row(summarise([record("smt", 1.0, 0, HALF, unparsed=1)]), "smt", 1.0)
    assert one["stderr"] == pytest.approx(100 * ((0.25 / 3 + 0.25 / 1) ** 0.5) / 2)  # n - 1 of each task's n
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


def test_the_best_of_a_column_is_bold_where_it_is_told_ahead_and_no_cell_of_a_row_is():
    """Two hundred questions, three seeds: 25 points apart is told, a point is not, and one seed tells nothing."""

    def right(share: float, seed: int) -> dict[str, list[int]]:
        return {"boolq": [int((37 * i + seed) % 200 < 200 * share) for i in range(200)]}

    def made(shares: dict[tuple[str, float | None], float], seeds: int = 3) -> dict[str, dict[str, str]]:
        return cells(
            table3(
                [record(m, f, s, right(p + 0.005 * s, s)) for (m, f), p in shares.items() for s in range(seeds)], "tiny"
            )
        )

    shares = {("smt", 1.0): 0.4, ("smt", 2.0): 0.65, ("lora", 1.0): 0.65, ("lora", 2.0): 0.4, ("full", None): 0.9}
    bold = {(m, column) for m, row in made(shares).items() for column, text in row.items() if text.startswith("**")}
    assert bold == {("SMT", "2 %"), ("LoRA", "1 %")}  # full has no rival in its column
    assert not [t for row in made(shares, seeds=1).values() for t in row.values() if "**" in t]
    near = made({("smt", 1.0): 0.66, ("lora", 1.0): 0.65, ("dora", 1.0): 0.4})
    assert not [t for row in near.values() for t in row.values() if "**" in t]  # ahead of one rival, not of all
    nll = [record(m, 1.0, s, HALF, nll=n + 0.001 * s) for m, n in (("smt", 1.5), ("lora", 1.25)) for s in range(3)]
    shown = cells(table3_heldout(nll, "tiny"))
    assert shown["LoRA"]["1 %"].startswith("**1.2510") and shown["SMT"]["1 %"].startswith("1.5010")


def test_what_needs_no_model_stands_below_accuracy():
    made = record("smt", 1.0, 0, {"boolq": [1, 0, 1, 1], "ARC-Easy": [1] * 200})
    gold = made["evaluation"]
    gold["boolq"]["examples"]["gold"] = ["true", "true", "true", "false"]
    gold["ARC-Easy"]["examples"]["gold"] = (
        ["answer1"] * 60 + ["answer2"] * 50 + ["answer3"] * 50 + ["answer4"] * 39 + ["answer5"]
    )
    (line,) = notes.floor(groups([made]), ["boolq", "ARC-Easy"])
    assert (
        line == "Without a model: by chance 37.5 %, always the commonest answer of each task: 52.5 %."
    )  # 1/2, 1/4; 3/4, 60/200
    made["evaluation"]["gsm8k"] = made["evaluation"]["boolq"]
    (line,) = notes.floor(groups([made]), ["boolq", "gsm8k"])
    assert "75.0 %" in line and "next to nothing where no options are offered (GSM8K)" in line
    for unknown in ("lm-eval:arc_easy", "humaneval"):  # options that are not ours to see; a program's outcome
        made["evaluation"][unknown] = made["evaluation"]["boolq"]
        assert notes.floor(groups([made]), [unknown]) == []
        (line,) = notes.floor(groups([made]), ["boolq", unknown])
        assert "by chance 50.0 %" in line and "(without " in line


def test_a_plateau_is_a_verdict(tmp_path):
    records = sweep("tiny", (1.0, 2.0, 4.0), 3, methods=("smt", "lora"), n=60)
    table = plateau_table(records, "tiny")
    assert [row[1] for row in table.rows] == ["LoRA", "SMT"] * 2 and len(table.data) == 4
    told = {line["verdict"] for line in table.data}
    assert told <= {"still gains", "plateau", "loses", "cannot be told"}
    line = next(note for note in table3(records, "tiny").notes if note.startswith("From the last fraction but one"))
    assert f"LoRA {table.data[0]['verdict']}, SMT {table.data[1]['verdict']}" in line
    assert plateau_table([record("smt", 1.0, 0, HALF)], "tiny") is None
    one = plateau_table([record("smt", f, 0, {"boolq": [1, 0] * 30}) for f in (1.0, 2.0)], "tiny")
    assert one.data[0]["verdict"] == "cannot be told (one seed)"


def test_margins_of_the_table_command_reach_the_decisions():
    records = sweep("tiny", (1.0,), 4, methods=("smt", "lora"), n=300)
    usual = comparisons(records, "m", "smt")
    with using(Margins(points=30.0, nats=5.0)):
        wide = comparisons(records, "m", "smt")
    assert {(r["verdict"], r["nll_verdict"]) for r in wide.data} == {("within the margin",) * 2}
    assert {r["verdict"] for r in usual.data} != {"within the margin"} and "± 30 points" in wide.to_markdown()


def test_interval_and_seed_counts_are_shown():
    same = table3(three_seeds(), "tiny")
    assert cells(same)["SMT"] == {"1 %": "62.5 ± 31.1"} and "3 seeds per trained cell" in same.to_markdown()
    assert "all seeds gave the same" not in same.to_markdown()
    equal = table3([record("smt", 1.0, s, HALF) for s in range(3)], "tiny")
    assert cells(equal)["SMT"] == {"1 %": "50.0"} and "all seeds gave the same accuracy" in equal.to_markdown()
    mixed = cells(table3([*three_seeds(), record("lora", 1.0, 0, HALF), record("base", None, 0, HALF)], "tiny"))
    assert mixed["SMT"]["1 %"] == "62.5 ± 31.1 n=3" and mixed["LoRA"]["1 %"] == "50.0 n=1"
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


def test_files_and_csv_round_trip(tmp_path):
    records = sweep("llama-7b", (0.43, 0.84), 2, n=30, protocol="llm-adapters")
    records.append(record("lora", 4.91, 0, dict.fromkeys(EIGHT, [1]), status="diverged", **PAPERS))
    files = Plateau().render(records, tmp_path, "llama-7b")
    assert files[0].name == "table3.md" and {f.name for f in files} == {p.name for p in tmp_path.iterdir()}
    text = {"method", "versus", "source", "capacity_unit", "keys", "verdict", "nll_verdict"}
    text |= {"claim", "ahead", "behind", "equal", "denied", "control", "quantity"}
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
    files = Plateau().render(records, tmp_path, model)
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


def test_tables_say_versions_and_hardware_and_all_of_them_where_they_differ() -> None:
    made = {"packages": {"torch": "2.13.0", "transformers": "5.23.0", "peft": None}, "cpu": "EPYC", "gpus": []}
    other = {**made, "packages": {"torch": "2.12.0", "transformers": "5.23.0"}, "gpus": ["H100", "H100"]}
    two = [record("smt", 1.0, 0) | {"environment": made}, record("lora", 1.0, 0) | {"environment": other}]
    page = table3(two, "tiny").to_markdown()
    assert "Made with torch 2.12.0 and 2.13.0, transformers 5.23.0 on EPYC and on H100, H100." in page
    old = table3([record("smt", 1.0, 0)], "tiny").to_markdown()  # of records that say nothing
    assert "Made with unknown versions on unknown hardware." in old

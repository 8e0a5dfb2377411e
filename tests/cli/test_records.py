"""`compare`, `records` and `table --latex`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT, Cli

from smt_bench.records.flat import columns, row
from smt_bench.records.store import Store
from smt_bench.records.trust import SCHEMA, sealed
from smt_bench.report.latex import booktabs, escaped

REFERENCE = ROOT / "results" / "reference"
INDEX = json.loads((REFERENCE / "plateau/tiny/runs.json").read_text(encoding="utf-8"))
KEYS = INDEX["settings"][INDEX["latest"]][:4]
SPEED = next(r["key"] for r in Store(REFERENCE).records() if r["run"].get("kind") == "speed")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        (tmp_path / name / "runs").mkdir(parents=True)
        for key in (*KEYS, SPEED):
            shutil.copy(REFERENCE / "runs" / f"{key}.json", tmp_path / name / "runs")
    return tmp_path / "a", tmp_path / "b"


def compared(cli: Cli) -> tuple[int, dict[str, str], subprocess.CompletedProcess[str]]:
    done = cli("compare", "a", "b", "--json")
    found = json.loads(done.stdout)
    return done.returncode, {next(filter(None, p["keys"])): p["outcome"] for p in found}, done


def change(folder: Path, key: str, nats: float = 0.0, relative: float = 0.0, answers: int = 0) -> None:
    """Another answer to the question of a record: losses and answers moved, all that follows from them with them."""
    record = Store(folder).read(key)
    assert record is not None
    record["training"]["losses"] = [loss * (1 + relative) for loss in record["training"]["losses"]]
    tokens = record["heldout"]["examples"]["tokens"]
    record["heldout"]["examples"]["loglik"] = [
        v - nats * t for v, t in zip(record["heldout"]["examples"]["loglik"], tokens)
    ]
    record["heldout"]["nll"] = -sum(record["heldout"]["examples"]["loglik"]) / sum(tokens)
    if answers:
        result = next(iter(record["evaluation"].values()))
        examples = result["examples"]
        wrong = [i for i, right in enumerate(examples["correct"]) if right][:answers]
        other = next(w for w in set(examples["gold"]) if w != examples["gold"][wrong[0]])
        for i in wrong:
            if examples["gold"][i] != other:
                examples["prediction"][i], examples["correct"][i] = other, 0
        n, p = result["n"], sum(examples["correct"]) / result["n"]
        result |= {"accuracy": p, "stderr": (p * (1 - p) / (n - 1)) ** 0.5}
    (folder / "runs" / f"{key}.json").write_text(sealed(record | {"schema": SCHEMA}))


def test_the_same_answers_are_identical_and_the_exit_code_is_0(cli: Cli, two: tuple[Path, Path]) -> None:
    code, outcomes, _ = compared(cli)
    assert code == 0 and set(outcomes.values()) == {"identical"} and len(outcomes) == 5
    assert cli("compare", "a", "b").stdout.strip() == "5 identical"


def test_small_differences_are_equivalent_large_ones_differ(cli: Cli, two: tuple[Path, Path]) -> None:
    change(two[1], KEYS[1], nats=1e-4, relative=1e-5)
    code, outcomes, _ = compared(cli)
    assert code == 0 and outcomes[KEYS[1]] == "equivalent" and outcomes[KEYS[2]] == "identical"
    change(two[1], KEYS[2], nats=0.01)
    change(two[1], KEYS[3], relative=0.01)
    code, outcomes, _ = compared(cli)
    assert code == 1 and outcomes[KEYS[2]] == outcomes[KEYS[3]] == "differs" and outcomes[KEYS[1]] == "equivalent"
    told = cli("compare", "a", "b")
    assert told.returncode == 1 and f"differs: {KEYS[2]}" in told.stdout and "held-out loss" in told.stdout


def test_a_question_without_an_answer_is_missing_on_either_side(cli: Cli, two: tuple[Path, Path]) -> None:
    (two[0] / "runs" / f"{KEYS[0]}.json").unlink()
    (two[1] / "runs" / f"{KEYS[1]}.json").unlink()
    code, outcomes, _ = compared(cli)
    assert code == 1 and outcomes[KEYS[0]] == outcomes[KEYS[1]] == "missing" and outcomes[KEYS[2]] == "identical"


def test_measurements_meet_whatever_machine_made_them_and_decide_nothing(cli: Cli, two: tuple[Path, Path]) -> None:
    from smt_bench.records.runs import question

    record = Store(two[1]).read(SPEED)
    assert record is not None
    record["run"]["machine"] = "another, 8 threads"
    record["key"] = question(record["run"]).key
    record["result"]["milliseconds"]["full"][0]["forward"] *= 2
    (two[1] / "runs" / f"{SPEED}.json").unlink()
    (two[1] / "runs" / f"{record['key']}.json").write_text(sealed(record))
    code, outcomes, _ = compared(cli)
    assert code == 0 and outcomes[SPEED] == "measured" and len(outcomes) == 5


def test_empty_folders_are_no_success(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    done = cli("compare", "a", "b")
    assert done.returncode == 2 and "nothing was compared" in done.stderr
    assert cli("compare", "a", "nowhere").returncode == 2


def test_parquet_has_a_row_per_run_and_its_numbers(cli: Cli, two: tuple[Path, Path]) -> None:
    import pandas as pd

    done = cli("records", "out.parquet", "--results", "a")
    assert done.returncode == 0, done.stderr
    found = pd.read_parquet(two[0].parent / "out.parquet").set_index("key")
    assert set(found.index) == {*KEYS, SPEED}
    for key in KEYS:
        record = Store(two[0]).read(key)
        assert record is not None
        assert found.loc[key, "heldout.nll"] == record["heldout"]["nll"]
        assert found.loc[key, "run.method.name"] == record["run"]["method"]["name"]
        assert found.loc[key, "evaluation.facts-2.accuracy"] == record["evaluation"]["facts-2"]["accuracy"]
    assert pd.isna(found.loc[SPEED, "heldout.nll"])  # no number, no 0


def test_columns_have_one_type_and_what_is_missing_stays_missing() -> None:
    made = columns([{"a": 1, "b": "x"}, {"a": 2.5, "b": 3, "c": True}, {}])
    assert made == {"a": [1.0, 2.5, None], "b": ['"x"', "3", None], "c": [None, True, None]}


def test_json_lines_hold_all_of_every_record(cli: Cli, two: tuple[Path, Path]) -> None:
    assert cli("records", "out.jsonl", "--results", "a").returncode == 0
    lines = [json.loads(line) for line in (two[0].parent / "out.jsonl").read_text().splitlines()]
    assert {r["key"]: r for r in lines} == {r["key"]: r for r in Store(two[0]).records()}
    assert row(lines[0])["key"] == lines[0]["key"]


@pytest.mark.parametrize("name", ["out.xlsx", "out"])
def test_another_format_is_refused(cli: Cli, two: tuple[Path, Path], name: str) -> None:
    done = cli("records", name, "--results", "a")
    assert done.returncode == 2 and ".parquet or .jsonl" in done.stderr and not (two[0].parent / name).exists()


def test_latex_has_the_cells_of_the_table() -> None:
    text = booktabs((REFERENCE / "plateau/tiny/table3.md").read_text(encoding="utf-8"))
    assert r"\toprule" in text and r"\midrule" in text and text.count(r"\bottomrule") == 1
    assert r"\begin{tabular}{lrrrrrr}" in text
    body = [line for line in text.splitlines() if line.startswith("LoRA & ")]
    assert body == [r"LoRA &  & 48.4 $\pm$ 1.6 & 52.4 $\pm$ 1.8 & 59.4 $\pm$ 3.5 & 72.2 $\pm$ 3.4 &  \\"]
    assert all(line.count("&") == 6 for line in text.splitlines() if line.endswith(r" \\"))
    assert escaped(r"a_b 5 % & {x} \| \evil") == r"a\_b 5 \% \& \{x\} | \textbackslash{}evil"


def test_table_writes_latex_beside_the_others(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("table", "qkv", "--results", str(REFERENCE), "--out", str(out), "--latex")
    assert done.returncode == 0, done.stderr
    assert {p.stem for p in out.rglob("*.tex")} == {p.stem for p in out.rglob("*.md")} != set()

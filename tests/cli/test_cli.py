"""The command line as a user meets it: one clear line and exit code 2 for bad input, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, Cli


def test_a_real_process_says_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "smt_bench", "run", "platau"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown experiment 'platau': did you mean plateau?\n"


@pytest.mark.parametrize("given", [None, "active"])
def test_waiting_threads_do_not_spin_unless_asked_to(given: str | None) -> None:
    code = (
        "import os, runpy, sys; sys.argv[1:] = ['list', 'x']\n"
        "try: runpy.run_module('smt_bench', run_name='__main__')\n"
        "finally: print(os.environ['OMP_WAIT_POLICY'])"
    )
    around = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    around |= {"OMP_WAIT_POLICY": given} if given else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=around, timeout=100)
    assert done.stdout.split() == [given or "passive"]


REFERENCE = ROOT / "results" / "reference"


def test_an_experiment_without_figures_says_so(cli: Cli, tmp_path: Path) -> None:
    import shutil

    from smt_bench.records.index import INDEX, Index

    place = tmp_path / "results" / "block-metric" / "tiny"
    place.mkdir(parents=True)
    shutil.copy(REFERENCE / "block-metric" / "tiny" / INDEX, place)
    nothing = cli("figure", "block-metric", "--results", str(tmp_path / "results"))
    assert nothing.returncode == 2 and "no runs of block-metric on tiny" in nothing.stderr  # an index, no record
    (tmp_path / "results" / "runs").mkdir(exist_ok=True)
    for key in Index.read(place).keys:
        shutil.copy(REFERENCE / "runs" / f"{key}.json", tmp_path / "results" / "runs")
    done = cli("figure", "block-metric", "--results", str(tmp_path / "results"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: block-metric draws no figure: see `table block-metric --model tiny`\n"
    assert cli("table", "block-metric", "--results", str(tmp_path / "results")).returncode == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "platau"], "unknown experiment 'platau': did you mean plateau?"),
        (["run", "plateau", "--model", "tinny"], "unknown model 'tinny': did you mean tiny?"),
        (["run", "plateau", "--methods", "lora,dorra"], "unknown method 'dorra': did you mean dora?"),
        (["run", "plateau", "--tasks", "facts-6"], "facts-"),
        (["run", "plateau", "--fractions", "90"], "choose"),
        (["run", "plateau", "--fractions", "abc"], "--fractions 'abc'"),
        (["run", "plateau", "--fractions", "0"], "--fractions 0.0: choose"),
        (["run", "plateau", "--steps", "0"], "--steps 0"),
        (["run", "plateau", "--protocol", "greedy"], "choose from likelihood, llm-adapters"),
        (["run", "plateau", "--preset", "smok"], "unknown preset 'smok'"),
        (["run", "plateau", "--data", "nowhere"], "--data nowhere does not exist"),
        (["show", "ffff"], "results folder results does not exist"),
        (["table", "plateau"], "results folder results does not exist"),
        (["list", "things"], "choose from experiments"),
        (["run"], "experiment"),
        (["run", "plateau", "--steps", "many"], "--steps"),
        (["run", "plateau", "--set", "smt.block_size=7"], "block_size=7 does not divide"),
        (["run", "plateau", "--set", "smt.blocksize=32"], "blocksize: unknown setting"),
        (["run", "plateau", "--set", "smt"], "write METHOD.SETTING=VALUE"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: list[str], message: str, cli: Cli, tmp_path: Path) -> None:
    done = cli(*args)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "results").exists()


def test_large_models_are_refused_with_numbers(cli: Cli) -> None:
    import torch

    if torch.cuda.device_count() >= 4:
        pytest.skip("this machine may well run LLaMA-7B")
    done = cli("run", "plateau", "--model", "llama-7b")
    assert done.returncode == 2
    for part in ("6.74 billion", "GB of GPU memory in all", "each", "found:", "--model tiny"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_list_is_json(cli: Cli) -> None:
    found = json.loads(cli("list", "--json").stdout)
    assert {"full", "smt", "lora", "dora", "spiel"} <= {m["name"] for m in found["methods"]}
    assert "plateau" in {e["name"] for e in found["experiments"]}
    assert {"tiny", "smollm2-135m", "llama-7b"} <= {m["name"] for m in found["models"]}


def test_dry_run_is_json_with_unique_keys_and_trains_nothing(cli: Cli, tmp_path: Path) -> None:
    rows = json.loads(cli("run", "plateau", "--dry-run", "--json", "--seeds", "0,1").stdout)
    assert len({row["key"] for row in rows}) == len(rows) == 1 + 2 * (1 + 4 * 4)
    assert {row["status"] for row in rows} == {"missing"}
    for row in rows:
        if row["fraction_pct"]:
            unit = 100 * row["trainable"] / row["capacity"] / 2_042_304  # one capacity unit, in % of tiny
            assert abs(row["trainable_pct"] - row["fraction_pct"]) <= max(0.05 * row["fraction_pct"], unit)
    assert not (tmp_path / "results").exists()


def test_unwritable_results_are_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    done = cli("run", "plateau", "--results", "taken")
    assert done.returncode == 2
    assert "a file, not a folder: choose another with --results" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_gold_answer_is_found_before_training(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "data" / "dataset" / "boolq"
    place.mkdir(parents=True)
    good = {"instruction": "Is it?", "input": "", "output": "the correct answer is true", "answer": "true"}
    (place / "train.json").write_text(json.dumps([good] * 200))
    (place / "test.json").write_text(json.dumps([good, {**good, "answer": "maybe"}]))
    done = cli("run", "plateau", "--data", "data")
    assert done.returncode == 2
    assert "test.json: record 2: field 'answer'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

"""One tiny sweep end to end: stored, interrupted, continued, rendered again; damage and divergence on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from smt_bench.execute import execute
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.store import Store

ARGS = ["run", "plateau", "--model", "tiny", "--preset", "smoke", "--methods", "smt,lora"]


def cli(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smt_bench", *args], capture_output=True, text=True, cwd=cwd, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sweep")
    done = cli(*ARGS, cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def test_writes_records_tables_and_figures(swept: Path) -> None:
    folder = swept / "results" / "plateau" / "tiny"
    names = {p.name for p in folder.iterdir()}
    assert {"table3.md", "table3.csv", "table2.md", "table2.csv", "figure9.png", "figure9.svg", "runs.json"} <= names
    table = pd.read_csv(folder / "table3.csv")
    assert set(table["method"]) == {"smt", "lora"}
    assert table["accuracy"].between(0, 100).all()
    records = Store(swept / "results").records()
    assert len(records) == 2 and {r["status"] for r in records} == {"done"}
    for record in records:
        capacity, training = record["capacity"], record["training"]
        assert capacity["trainable"] < 0.2 * capacity["total"]
        assert len(training["losses"]) == record["run"]["train"]["steps"]
        assert record["key"] in " ".join(table["keys"])
        for task in record["evaluation"].values():
            examples = task["examples"]
            assert len(examples["gold"]) == len(examples["prediction"]) == task["n"] == 10
            assert sum(examples["correct"]) / task["n"] == pytest.approx(task["accuracy"])
        assert len(record["heldout"]["examples"]["loglik"]) == record["run"]["data"]["heldout"]


def test_a_second_run_trains_nothing_and_more_methods_add_to_the_table(swept: Path) -> None:
    runs = swept / "results" / "runs"
    before = {p.name: p.read_bytes() for p in runs.iterdir()}
    done = cli(*ARGS, cwd=swept)
    assert done.returncode == 0 and "2 there" in done.stderr
    assert {p.name: p.read_bytes() for p in runs.iterdir()} == before
    done = cli(*ARGS[:-1], "full", cwd=swept)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(swept / "results" / "plateau" / "tiny" / "table3.csv")
    assert set(table["method"]) == {"smt", "lora", "full"}


def test_table_figure_and_show_read_records_only(swept: Path) -> None:
    folder = swept / "results" / "plateau" / "tiny"
    table = (folder / "table3.csv").read_bytes()
    (folder / "table3.csv").unlink()
    (folder / "figure9.png").unlink()
    assert cli("table", "plateau", cwd=swept).returncode == 0
    assert cli("figure", "plateau", cwd=swept).returncode == 0
    assert (folder / "table3.csv").read_bytes() == table
    assert (folder / "figure9.png").stat().st_size > 5000
    key = next((swept / "results" / "runs").glob("*.json")).stem
    shown = json.loads(cli("show", key[:8], "--json", cwd=swept).stdout)
    assert shown["key"] == key


def test_damaged_record_is_named_and_made_again(swept: Path) -> None:
    path = sorted((swept / "results" / "runs").glob("*.json"))[0]
    before = json.loads(path.read_text())
    path.write_text(path.read_text()[:100])
    method = before["run"]["method"]["name"]
    done = cli(*ARGS[:-1], method, cwd=swept)
    assert done.returncode == 0, done.stderr
    assert f"{path.name} set aside" in done.stderr
    again = json.loads(path.read_text())
    assert again["training"]["losses"] == before["training"]["losses"]
    assert again["evaluation"] == before["evaluation"]


def test_interrupted_sweep_keeps_finished_runs(tmp_path: Path) -> None:
    narrowed = ["--steps", "40", "--limit", "5", "--methods", "lora,full", "--fractions", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "smt_bench", *ARGS[:4], *narrowed],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    runs = tmp_path / "results" / "runs"
    deadline = time.time() + 200
    while time.time() < deadline and not list(runs.glob("*.json")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    finished = list(runs.glob("*.json"))
    assert len(finished) == 1
    assert json.loads(finished[0].read_text())["status"] == "done"
    assert not [p for p in runs.iterdir() if p.name.startswith(".")]


def planned(**changes: object) -> tuple[Planner, list]:
    request = Request("plateau", "tiny", preset="smoke", **changes)  # type: ignore[arg-type]
    planner = Planner(request, fits.here())
    planner.open()
    return planner, [run for run, _ in Plateau().runs(planner)]


def test_divergence_is_an_outcome_and_the_record_says_where(tmp_path: Path) -> None:
    planner, runs = planned(methods=("full",))
    wild = replace(runs[0], train=replace(runs[0].train, lr=1e18, max_grad_norm=1e9))
    record = execute(wild, planner.inputs())
    assert record["status"] == "diverged" and record["step"] >= 1 and "step" in record["message"]
    assert "evaluation" not in record
    Store(tmp_path).write(record)  # valid JSON: no NaN anywhere
    assert Store(tmp_path).missing([wild]) == []


def test_failures_are_recorded_with_their_message() -> None:
    planner, runs = planned(methods=("lora",))
    broken = replace(planner.inputs(), data=None)  # type: ignore[arg-type]
    record = execute(runs[0], broken)
    assert record["status"] == "failed" and "NoneType" in record["message"] and record["traceback"]


@pytest.mark.parametrize("name", ["full", "smt", "lora", "dora", "spiel"])
def test_micro_batches_and_checkpointing_change_only_rounding(name: str) -> None:
    planner, runs = planned(methods=(name,), steps=3)
    run = runs[0]
    config = {**run.method.config, **({"dropout": 0.0} if "dropout" in run.method.config else {})}
    if name == "spiel":
        config |= {"update_every": 3, "estimate_steps": 3}  # candidates come from the first micro-batch: keep it out
    run = replace(run, method=replace(run.method, config=config))
    whole = execute(run, planner.inputs())
    parts = execute(
        replace(run, train=replace(run.train, micro_batch_size=8, gradient_checkpointing=True)), planner.inputs()
    )
    assert parts["training"]["losses"] == pytest.approx(whole["training"]["losses"], rel=2e-4)
    assert parts["training"]["tokens"] == whole["training"]["tokens"]


def test_runs_are_reproducible_bit_by_bit() -> None:
    planner, runs = planned(methods=("smt",))
    first, second = execute(runs[0], planner.inputs()), execute(runs[0], planner.inputs())
    for part in ("training", "method", "heldout", "evaluation"):
        assert first[part] == second[part]

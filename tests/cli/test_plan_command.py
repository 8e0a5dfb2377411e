"""`plan` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smt_bench.cli.app import main

Cli = Callable[..., subprocess.CompletedProcess[str]]
FIELDS = {
    "model", "method", "fraction", "capacity", "trainable", "trainable_pct", "memory_bytes", "peak_bytes", "flops_forward",
    "flops_backward", "step_s", "fits",
}  # fmt: skip


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Calls the command line in this process, from an empty folder."""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["smt_bench", "plan", *args])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            main()
        done = capsys.readouterr()
        return subprocess.CompletedProcess(args, int(stop.value.code or 0), done.out, done.err)

    return call


def planned(cli: Cli, *args: str) -> list[dict[str, Any]]:
    done = cli("plateau", "--model", "tiny", "--json", *args)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_recipe_file_is_planned_as_it_would_run(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('base = "tiny"\nsteps = 77\nbatch_size = 4\ncutoff = 64\n[lr]\nlora = 0.5\n')
    asked = ("--methods", "lora", "--fractions", "8")
    (plain,), (own,) = planned(cli, *asked), planned(cli, *asked, "--recipe", str(file))
    assert (own["steps"], own["lr"]) == (77, 0.5) and plain["steps"] == 220
    assert own["peak_bytes"] < plain["peak_bytes"]
    assert "none.toml: no such file" in cli("plateau", "--model", "tiny", "--recipe", "none.toml").stderr


def test_one_object_per_run_and_nothing_written(cli: Cli, tmp_path: Path) -> None:
    rows = planned(cli, "--methods", "full,smt,lora", "--fractions", "1,60")
    assert [(r["method"], r["fraction"]) for r in rows] == [
        ("full", None), ("smt", 0.01), ("smt", 0.6), ("lora", 0.01), ("lora", 0.6),
    ]  # fmt: skip
    assert all(set(r) >= FIELDS for r in rows)
    full, smt, too_much, lora, _ = rows
    assert full["trainable"] == 2_042_304 and full["trainable_pct"] == 100
    assert too_much["refusal"].startswith("fraction 60.0000% needs") and too_much["capacity"] is None
    assert too_much["peak_bytes"] is None is too_much["step_s"] and too_much["memory_bytes"] is None
    assert set(smt["memory_bytes"]) == {"warmup", "attach", "tuning"}
    assert smt["peak_bytes"] >= full["peak_bytes"]  # its warm-up trains everything
    assert smt["tuning_peak_bytes"] < smt["peak_bytes"]
    for row in (full, smt, lora):
        peaks = [phase["total"] for stage in row["memory_bytes"].values() for phase in stage.values()]
        assert max(peaks) == row["peak_bytes"]
        parts = row["memory_bytes"]["tuning"]["backward"]
        assert sum(v for k, v in parts.items() if k != "total") == parts["total"]
        assert (
            row["flops_backward"]
            == row["flops_input_gradient"] + row["flops_weight_gradient"] + row["flops_recomputation"]
        )
        assert 0 < row["step_s"] < row["run_s"] and row["fits"] == "OK"
    assert full["flops_weight_gradient"] > 10 * smt["flops_weight_gradient"] > 0
    assert list(tmp_path.iterdir()) == []


def test_sharding_and_offload_as_asked(cli: Cli) -> None:
    def peak(*args: str) -> dict[str, Any]:
        return planned(cli, "--methods", "full", "--batch-size", "4", "--gpus", "4", *args)[0]

    whole, two, offload = peak("--zero", "0"), peak("--zero", "2"), peak("--zero", "2", "--offload")
    assert whole["peak_bytes"] > two["peak_bytes"] > offload["peak_bytes"]
    assert two["layout"] == {"tuning": "ZeRO-2"} and offload["layout"] == {"tuning": "ZeRO-2+offload"}
    assert offload["host_bytes"] == 24 * 2_042_304 and not two["host_bytes"]
    assert offload["step_s"] > whole["step_s"] > two["step_s"]


def test_a_four_bit_base_cannot_be_trained(cli: Cli) -> None:
    full, lora = planned(cli, "--methods", "full,lora", "--fractions", "2", "--base", "nf4")
    assert "full: it trains the model's own weights" in full["refusal"] and full["peak_bytes"] is None
    assert lora["method"] == "lora over nf4"
    plain = planned(cli, "--methods", "lora", "--fractions", "2")[0]
    key = ("tuning", "forward", "parameters")

    def parameters(row: dict[str, Any]) -> int:
        return int(row["memory_bytes"][key[0]][key[1]][key[2]])

    assert parameters(lora) < 0.6 * parameters(plain)


def test_tables_and_figure_are_written(cli: Cli, tmp_path: Path) -> None:
    done = cli("learning-rate", "--model", "tiny", "--methods", "lora,spiel", "--gpu", "rtx3090")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "plan" / "learning-rate" / "tiny"
    assert {f.name for f in folder.iterdir()} == {
        "plan.md", "plan.csv", "memory.md", "memory.csv", "memory.png", "memory.svg",
    }  # fmt: skip
    assert (folder / "plan.csv").read_text().count("\n") == 7  # two methods, three rates
    assert "1 x rtx3090" in (folder / "plan.md").read_text()
    assert (folder / "memory.png").stat().st_size > 10_000
    assert "rank" in done.stdout and "deltas" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["plateau", "--gpu", "a100"], "unknown GPU 'a100': did you mean a100-"),
        (["platau"], "unknown experiment 'platau': did you mean plateau?"),
        (["paper"], "paper stands for plateau, commonsense, "),
        (["speed"], "speed makes no training run: there is nothing to plan"),
        (["plateau", "--model", "tinny"], "unknown model 'tinny': did you mean tiny?"),
        (["plateau", "--model", "picture"], "model picture: ViTConfig is not a causal language model"),
        (["plateau", "--model", "tiny", "--length", "100000"], "positions: choose at most"),
        (["plateau", "--model", "llama-7b", "--length", "2049"], "llama-7b has 2048 positions: choose at most 2048"),
        (["plateau", "--model", "tiny", "--length", "0"], "--length 0: choose a whole number, at least 1"),
        (["plateau", "--model", "tiny", "--batch-size", "0"], "--batch-size 0"),
        (["plateau", "--model", "tiny", "--gpus", "0"], "--gpus 0"),
        (["plateau", "--model", "tiny", "--gpus", "3"], "--gpus 3 with 32 examples per step"),
        (["plateau", "--model", "tiny", "--base", "int8"], "--base 'int8': choose from nf4"),
        (
            ["plateau", "--model", "tiny", "--methods", "lora", "--base", "nf4", "--zero", "2"],
            "leave --zero and --offload out",
        ),
        (["plateau", "--model", "tiny", "--zero", "4"], "--zero 4"),
        (["plateau", "--model", "tiny", "--precision", "fp8"], "--precision fp8: choose from fp32, bf16"),
        (["plateau", "--model", "tiny", "--attention", "slow"], "--attention slow: choose from flash, eager"),
        (["plateau", "--model", "tiny", "--efficiency", "2"], "--efficiency 2"),
        (["plateau", "--model", "tiny", "--methods", "lorra"], "unknown method 'lorra': did you mean lora?"),
        (["plateau", "--model", "tiny", "--fractions", "x"], "--fractions 'x'"),
        (["plateau", "--model", "tiny", "--set", "smt.block_size"], "--set 'smt.block_size'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli: Cli, tmp_path: Path, args: list[str], message: str) -> None:
    (tmp_path / "picture").mkdir()
    (tmp_path / "picture" / "config.json").write_text('{"model_type": "vit"}')
    done = cli(*args)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr

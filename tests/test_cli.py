"""The command line as a user meets it: one clear line and exit code 2 for bad input, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = ["--steps", "4", "--limit", "3"]


def cli(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smt_bench", *args], capture_output=True, text=True, cwd=cwd, timeout=300, check=False
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "platau"], "unknown experiment 'platau': did you mean plateau?"),
        (["run", "plateau", "--model", "tinny"], "unknown model 'tinny': did you mean tiny?"),
        (["run", "plateau", "--methods", "lora,dorra"], "unknown method 'dorra': did you mean dora?"),
        (["run", "plateau", "--tasks", "facts-6"], "facts-"),
        (["run", "plateau", "--fractions", "90"], "choose"),
        (["run", "plateau", "--fractions", "abc"], "--fractions 'abc'"),
        (["run", "plateau", "--fractions", "0"], "above 0"),
        (["run", "plateau", "--steps", "0"], "--steps 0"),
        (["run", "plateau", "--preset", "smok"], "unknown preset 'smok'"),
        (["run", "plateau", "--data", "nowhere"], "data folder nowhere does not exist"),
        (["show", "ffff"], "no record"),
        (["table", "plateau"], "no runs of plateau on tiny"),
        (["list", "things"], "choose from experiments"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: list[str], message: str, tmp_path: Path) -> None:
    done = cli(*args, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "results").exists()


def test_large_models_are_refused_with_numbers(tmp_path: Path) -> None:
    import torch

    if torch.cuda.device_count() >= 4:
        pytest.skip("this machine may well run LLaMA-7B")
    done = cli("run", "plateau", "--model", "llama-7b", cwd=tmp_path)
    assert done.returncode == 2
    for part in ("6.74 billion", "GB of GPU memory in all", "each", "found:", "--model tiny"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_list_is_json(tmp_path: Path) -> None:
    found = json.loads(cli("list", "--json", cwd=tmp_path).stdout)
    assert {"full", "smt", "lora", "dora", "spiel"} <= {m["name"] for m in found["methods"]}
    assert "plateau" in {e["name"] for e in found["experiments"]}
    assert {"tiny", "smollm2-135m", "llama-7b"} <= {m["name"] for m in found["models"]}


def test_dry_run_is_json_with_unique_keys_and_trains_nothing(tmp_path: Path) -> None:
    rows = json.loads(cli("run", "plateau", "--dry-run", "--json", "--seeds", "0,1", cwd=tmp_path).stdout)
    assert len({row["key"] for row in rows}) == len(rows) == 1 + 2 * (1 + 4 * 4)
    assert {row["status"] for row in rows} == {"missing"}
    for row in rows:
        if row["fraction_pct"]:
            assert abs(row["trainable_pct"] - row["fraction_pct"]) < 0.5 * row["fraction_pct"]
    assert not (tmp_path / "results").exists()

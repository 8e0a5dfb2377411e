"""Without lm-eval and datasets: what trains says so before it does, what measures needs neither."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("lm_eval", "datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
sys.argv = ["smt_bench", *sys.argv[1:]]
from smt_bench.cli.app import main
main()
"""


def hidden(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", HIDE, *args]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_training_is_refused_before_it_starts(tmp_path: Path) -> None:
    done = hidden(tmp_path, "run", "plateau", "--model", "tiny", "--preset", "smoke")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "plateau judges what it trains with lm-eval and datasets, not installed: pip install" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "args",
    [
        ("run", "speed", "--model", "tiny", "--preset", "smoke", "--steps", "1", "--methods", "lora", "--length", "16"),
        ("run", "memory", "--model", "tiny", "--preset", "smoke", "--methods", "lora", "--length", "16"),
        ("run", "kernels", "--model", "tiny", "--preset", "smoke", "--steps", "1"),
        ("plan", "learning-rate", "--model", "tiny", "--methods", "lora"),
        ("check", "gpu", "--device", "cpu", "--parts", "ways,resume,cost", "--seconds", "1"),
    ],
)
def test_what_measures_needs_neither(args: tuple[str, ...], tmp_path: Path) -> None:
    done = hidden(tmp_path, *args)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "results").is_dir()


def test_data_cannot_be_downloaded_without_their_library(tmp_path: Path) -> None:
    done = hidden(tmp_path, "fetch", "commonsense")
    assert done.returncode == 2 and "downloading commonsense needs the datasets package" in done.stderr

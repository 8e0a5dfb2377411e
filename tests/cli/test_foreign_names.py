"""A user's folder may hold packages of any name: ours do not take the words `methods` and `experiments`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder with packages of their own, which say so when they are imported."""
    for name in ("methods", "experiments", "smt", "data", "records"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('their {name} was imported')\n")
    return tmp_path


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    # -m puts the folder first on the path.
    command = [sys.executable, "-m", "smt_bench", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_sweep_among_foreign_packages(theirs: Path) -> None:
    sweep = ("run", "plateau", "--preset", "smoke", "--methods", "lora", "--steps", "2", "--limit", "2", "--jobs", "2")
    done = run(theirs, *sweep)
    assert done.returncode == 0, done.stderr
    assert (theirs / "results" / "plateau" / "tiny" / "table3.csv").stat().st_size > 0
    assert run(theirs, "list").returncode == 0


@pytest.mark.slow
def test_memory_forks_among_foreign_packages(theirs: Path) -> None:
    done = run(
        theirs,
        "run",
        "memory",
        "--model",
        "bench-60m",
        "--preset",
        "smoke",
        "--methods",
        "lora",
        "--set",
        "lora.dropout=0.0",
    )
    assert done.returncode == 0, done.stderr

"""The command line as a fixture; long tests are left out unless asked for, e.g. `pytest -n 0 -m "slow or slurm"`."""

from __future__ import annotations

import gc
import os
import shutil

# Two workers (pyproject.toml) and the processes they start share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from helpers import Cli

from smt_bench.cli.app import main

# What a model's files told is remembered there: never by what a test made of this package for a moment.
os.environ["SMT_BENCH_CACHE"] = tempfile.mkdtemp(prefix="smt-bench-cache-")

# The same examples in every run, and no limit of time on a busy machine.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None, max_examples=60)
hypothesis.settings.load_profile("same")

MARKERS = {
    "slow": "takes more than half a minute; part of .ci/run",
    "slurm": "starts a real SLURM; part of .ci/run",
    "long": "takes minutes and asks more of what a quicker test asks; before a release",
}


# Files of few, long tests: begun last, one worker would still be at them when the other has nothing left.
FIRST = ("training/test_survival.py", "training/test_parallel.py", "experiments/test_cost.py", "sweep/test_sweep.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(FIRST)))  # stable: all others keep their order


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["SMT_BENCH_CACHE"], ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    for name, what in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {what}")
    if not config.option.markexpr:
        config.option.markexpr = " and ".join(f"not {name}" for name in MARKERS)


@pytest.fixture(scope="module", autouse=True)
def what_is_imported_is_no_garbage() -> None:
    """Every run collects garbage twice, and would look through all that torch and the tests have made: half a second each."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def own_data() -> Iterator[None]:
    """Families of a user's data that a test makes known are not known to the next."""
    from smt_bench.data import families

    yield
    families._OWN.clear()
    families.all_families.cache_clear()
    families.all_tasks.cache_clear()


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Calls the command line in this process (libraries are imported once), from an empty folder."""

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["smt_bench", *args])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            main()
        done = capsys.readouterr()
        return subprocess.CompletedProcess(args, int(stop.value.code or 0), done.out, done.err)

    return call


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Matrices as small as those of a test lose time to a second thread, a lot of it on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

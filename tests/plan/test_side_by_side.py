"""Dry runs by several processes are those of one, and what a process cannot make is made here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from smt_bench import methods
from smt_bench.plan import dry_runs, side_by_side
from smt_bench.plan.dry import Workload
from smt_bench.plan.dry_runs import DryRuns, Structure, several_at_a_time

WORKLOAD = Workload("tiny", 2, 32, "fp32")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(side_by_side, "cores", lambda: 2)
    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path / "cache"))
    with side_by_side.prepared():  # a server of its own: the environment is that of the first start
        yield


def structures(*names: str) -> list[Structure]:
    return [(name, methods.find(name).Config().to_dict(), fraction, 20) for name in names for fraction in (0.02, 0.04)]


def alone(asked: list[Structure], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setenv("SMT_BENCH_CACHE", str(folder))  # nothing is remembered there
    runs = DryRuns(WORKLOAD)
    return [runs.run(*structure).to_dict() for structure in asked]


def test_several_at_a_time_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = structures("spiel", "lora")
    runs, here = DryRuns(WORKLOAD), []
    original = dry_runs.dry_run_of
    monkeypatch.setattr(dry_runs, "dry_run_of", lambda *args: here.append(args) or original(*args))
    with several_at_a_time([(runs, [*asked, *asked])]):  # seeds and rates ask for the same ones
        found = [runs.run(*structure).to_dict() for structure in asked]
    assert not here  # all by other processes
    assert found == alone(asked, tmp_path / "other", monkeypatch) and len(here) == len(asked)


def test_what_is_remembered_or_alone_needs_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "pool", lambda *args: pytest.fail("a process was started"))
    asked = structures("lora")
    runs = DryRuns(WORKLOAD)
    for structure in asked:
        with several_at_a_time([(runs, [structure])]):
            runs.run(*structure)
    again = DryRuns(WORKLOAD)
    with several_at_a_time([(again, asked)]):
        assert [again.run(*s) for s in asked] == [runs.run(*s) for s in asked]


def end(*arguments: Any) -> None:
    os._exit(9)


def test_a_process_that_was_killed_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked, runs = structures("lora"), DryRuns(WORKLOAD)
    monkeypatch.setattr(dry_runs, "_answer", end)
    with several_at_a_time([(runs, asked)]):
        found = [runs.run(*structure).to_dict() for structure in asked]
    assert found == alone(asked, tmp_path / "other", monkeypatch)


PARENT = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background ignores it
from smt_bench.plan import side_by_side
side_by_side.NEEDED, side_by_side.cores = ("json",), lambda: 2
if __name__ == "__main__":
    with side_by_side.pool(2, print) as workers:
        worker = workers.submit(os.getpid).result()
        task = workers.submit(time.sleep, 600)
        print(worker, flush=True)  # last: a signal while Python clears a future away would be swallowed with its callback
        time.sleep(600)
"""


@pytest.mark.parametrize(("sent", "told"), [(signal.SIGKILL, ""), (signal.SIGINT, "KeyboardInterrupt")])
def test_they_end_with_the_process_that_asked_for_them(tmp_path: Path, sent: signal.Signals, told: str) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    root = Path(side_by_side.__file__).resolve().parents[2]
    parent = subprocess.Popen(
        [sys.executable, "parent.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(root)}, start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    lines = iter(parent.stdout.readline, "")
    worker = next(int(line) for line in lines if line.strip().isdigit())
    if sent == signal.SIGINT:
        os.killpg(parent.pid, sent)  # a Ctrl-C reaches all
    else:
        parent.kill()
    _, errors = parent.communicate(timeout=60)
    end = time.monotonic() + 60
    while psutil.pid_exists(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)
    assert errors.count("Traceback") == (1 if told else 0) and told in errors  # of the parent alone

"""Processes that share a sweep's runs: what each gets, and what happens where one dies or fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import Cli
from short_runs import question

from smt_bench.machine.files import write_text
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.records.store import Store
from smt_bench.records.trust import sealed
from smt_bench.sweep.deaths import Deaths
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.status import collect
from smt_bench.sweep.workers import Worker, _crashed, slots
from smt_bench.training.checkpoint import checkpoints


def test_the_second_death_at_one_checkpoint_fails_the_run(tmp_path: Path) -> None:
    store, (run, _) = Store(tmp_path), question("smt")
    log = tmp_path / "worker.log"
    log.write_text("Fatal Python error: Segmentation fault\n")
    process = subprocess.Popen([sys.executable, "-c", ""])
    worker, deaths = Worker("w-1", {}, log, process, 1), Deaths(store)

    def die() -> bool:
        held = Locks(store.runs).take(run.key)
        assert held is not None
        Locks(store.runs).path(run.key).write_text(json.dumps({**held.owner, "worker": "w-1"}))
        return _crashed(worker, -11, [run], store, deaths)

    states = checkpoints(store, run.key).folder
    states.mkdir(parents=True)
    assert die() and store.read(run.key) is None
    (states / "00000004-a.pt").touch()  # it came further
    assert die() and store.read(run.key) is None
    assert die()
    record = store.read(run.key)
    assert record is not None and record["status"] == "failed"
    assert record["message"] == "its process ended with signal 11 (SIGSEGV)"
    assert record["traceback"] == ["Fatal Python error: Segmentation fault"]
    assert not _crashed(worker, 1, [run], store, deaths)  # on nothing


def test_gpus_and_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert slots(1, ALONE, {}) == [{}]
    if not torch.cuda.is_available():
        assert slots(2, ALONE, {}) == [{"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}] * 2
        with pytest.raises(ValueError, match="needs 4 GPUs, 0 are visible"):
            slots(2, Spread(gpus_per_run=2), {})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    parts = [place["CUDA_VISIBLE_DEVICES"] for place in slots(2, ALONE, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"})]
    assert parts == ["4,5", "6,7"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in slots(1, Spread(3), {})] == ["0,1,2"]  # one GPU per process
    with pytest.raises(ValueError, match="choose at most"):
        slots(5, ALONE, {})


def killed_once(folder: Path, spread: str, victim: Callable[[dict[str, Any]], int | None]) -> Store:
    """A sweep of two runs with `spread` 2, one of whose processes is killed: it ends well all the same."""
    command = [sys.executable, "-m", "smt_bench", "run", "plateau", "--preset", "smoke", "--methods", "lora,full"]
    command += ["--limit", "1", "--steps", "40", spread, "2"]
    sweeping = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    store, pid = Store(folder / "results"), None
    while pid is None and sweeping.poll() is None:
        time.sleep(0.05)
        rows = collect(store) if store.root.exists() else []
        pid = next((found for row in rows if (found := victim(row))), None)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _, stderr = sweeping.communicate(timeout=300)
    assert sweeping.returncode == 0 and "2 done" in stderr, stderr
    return store


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    def full(row: dict[str, Any]) -> int | None:
        return row["pid"] if row["status"] == "running" and row["run"].startswith("full") else None

    store = killed_once(tmp_path, "--jobs", full)
    assert sorted(p.suffix for p in store.runs.iterdir()) == [".gz", ".gz", ".json", ".json"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_of_several_does_not_end_the_sweep(rank: int, tmp_path: Path) -> None:
    def of_rank(row: dict[str, Any]) -> int | None:
        if row.get("phase") != "train":
            return None
        siblings = psutil.Process(row["pid"]).parent().children()
        return next(p.pid for p in siblings if p.environ()["RANK"] == str(rank))

    killed_once(tmp_path, "--processes", of_rank)


def test_failed_runs_are_done_again_when_asked(tmp_path: Path, cli: Cli) -> None:
    command = ["run", "plateau", "--preset", "smoke", "--methods", "lora", "--limit", "1", "--steps", "2"]
    (planned,) = json.loads(cli(*command, "--results", str(tmp_path), "--dry-run", "--json").stdout)
    assert cli(*command, "--results", str(tmp_path)).returncode == 0
    store = Store(tmp_path)
    record = store.read(planned["key"])
    assert record is not None
    write_text(store.path(planned["key"]), sealed({**record, "status": "failed", "message": "it broke"}))
    again = cli(*command, "--results", str(tmp_path))
    assert again.returncode == 1 and "1 failed" in again.stderr and "--retry failed" in again.stderr
    assert cli(*command, "--results", str(tmp_path), "--retry", "failed").returncode == 0
    assert sorted(p.suffix for p in store.runs.iterdir()) == [".gz", ".json", ".retried"]


def test_a_retry_with_further_seeds_is_a_look_after_the_failed_runs_were_seen(tmp_path: Path, cli: Cli) -> None:
    command = ["run", "plateau", "--preset", "smoke", "--methods", "lora", "--limit", "1", "--steps", "2"]
    command += ["--results", str(tmp_path)]
    assert cli(*command, "--seeds", "0,1").returncode == 0
    store = Store(tmp_path)
    key = sorted(path.stem for path in store.runs.glob("*.json"))[0]
    record = store.read(key)
    assert record is not None
    write_text(store.path(key), sealed({**record, "status": "failed", "message": "it broke"}))
    assert cli(*command, "--seeds", "0,1,2", "--retry", "failed").returncode == 0
    (found,) = tmp_path.rglob("analysis.json")
    (kept,) = json.loads(found.read_text())["analyses"].values()
    assert [(look["seeds"], look["joins"]) for look in kept["later"]] == [([2], False)]

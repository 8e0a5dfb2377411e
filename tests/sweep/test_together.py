"""Processes beside each other, disks that are full, workers that die: what other processes and users see of it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import Cli
from rich.console import Console
from short_runs import question, result, session

from smt_bench.execute import execute
from smt_bench.machine.signals import Stop
from smt_bench.records.files import write_text
from smt_bench.records.index import Index
from smt_bench.records.store import Store
from smt_bench.records.trust import sealed
from smt_bench.sweep import locks
from smt_bench.sweep.deaths import Deaths
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.loop import Interrupted, sweep
from smt_bench.sweep.status import collect
from smt_bench.sweep.workers import Worker, _crashed, slots
from smt_bench.training.checkpoint import Checkpoints, checkpoints
from smt_bench.training.resume import Keeper, Pace


def test_a_claim_is_exclusive_and_released(tmp_path: Path) -> None:
    first, second = Locks(tmp_path), Locks(tmp_path)
    held = first.take("k")
    assert held is not None and second.take("k") is None
    held.release()
    assert list(tmp_path.iterdir()) == []
    assert second.take("k") is not None


def test_a_dead_owner_on_this_machine_loses_its_claim_at_once(tmp_path: Path) -> None:
    code = "import sys, pathlib, smt_bench.sweep.locks as c; assert c.Locks(pathlib.Path(sys.argv[1])).take('k')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=100)
    assert (tmp_path / "k.claim").exists()
    (tmp_path / ".k.json.half").write_text("written by the process that died")
    assert Locks(tmp_path).take("k") is not None
    assert [p.name for p in tmp_path.iterdir()] == ["k.claim"]


def test_an_owner_elsewhere_is_given_up_after_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Locks(tmp_path)
    held = here.take("k")
    assert held is not None
    owner = {**held.owner, "place": "another machine"}
    here.path("k").write_text(json.dumps(owner))
    assert here.take("k") is None
    old = time.time() - locks.EXPIRY - 5
    os.utime(here.path("k"), (old, old))
    taken = here.take("k")
    assert taken is not None
    held.release()  # it notices that the run is no longer its own
    assert here.owner("k") == taken.owner


def test_the_owner_of_a_claim_that_was_taken_over_is_told(tmp_path: Path) -> None:
    here = Locks(tmp_path)
    held = here.take("k")
    assert held is not None
    told: list[bool] = []
    with pytest.warns(UserWarning, match="taken over"):
        here.path("k").write_text(json.dumps({**held.owner, "token": "another"}))
        held.start(lambda: told.append(True))
        assert held._thread is not None
        held._thread.join(30)
    assert told == [True]


def test_a_claim_that_cannot_be_read_for_a_moment_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, told, reads = Locks(tmp_path).take("k"), list[bool](), list[int]()
    assert held is not None
    read = locks._owner

    def stale(path: Path) -> Any:
        reads.append(1)
        if len(reads) == 1:
            raise OSError(116, "Stale file handle")
        return read(path)

    monkeypatch.setattr(locks, "_owner", stale)
    monkeypatch.setattr(locks, "BEAT", 0.05)
    held.start(lambda: told.append(True))
    deadline = time.monotonic() + 30
    while len(reads) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(reads) >= 3 and not told
    held.release()


def test_a_signal_while_a_claim_is_being_taken_stops_the_sweep_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if "_beat" in repr(thread):
            os.kill(os.getpid(), signal.SIGTERM)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    stop, store = Stop(), Store(tmp_path)
    with stop.installed(), pytest.raises(Interrupted):
        sweep([question("smt")[0]], store, lambda *_: pytest.fail("started"), Console(file=io.StringIO()), stop)
    assert list(store.runs.iterdir()) == []


def test_a_claim_that_was_mistaken_for_a_dead_one_is_given_back(tmp_path: Path) -> None:
    here = Locks(tmp_path)
    held = here.take("k")
    assert held is not None
    here._void("k", {})  # by a process that saw a damaged claim before this one was made
    assert here.owner("k") == held.owner
    left = tmp_path / ".k.void.1"  # another one is about to give it back
    here.path("k").rename(left)
    second = here.take("k")
    assert second is not None and left.exists()


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


def test_status_knows_every_setting_and_names_a_damaged_index(tmp_path: Path, cli: Cli) -> None:
    place, run = tmp_path / "plateau" / "tiny", question("smt")[0]
    other = replace(run, train=replace(run.train, steps=7))
    assert other.setting != run.setting
    Index.read(place).add([run])
    Index.read(place).add([other])
    assert {row["key"] for row in collect(Store(tmp_path))} == {run.key, other.key}
    (place / "runs.json").write_text("{bad")
    done = cli("status", "--results", str(tmp_path))
    assert done.returncode == 0 and "runs.json is damaged (it is not complete JSON)" in done.stderr
    assert (place / "runs.json").read_text() == "{bad"  # looking changes nothing
    with pytest.warns(UserWarning, match="set aside as runs.json.damaged"):
        Index(place, {}, None).add([run])
    assert (place / "runs.json.damaged").read_text() == "{bad" and Index.read(place).keys == [run.key]


def test_gpus_and_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert slots(1, None, 1, {}) == [{}]
    if not torch.cuda.is_available():
        assert slots(2, None, 1, {}) == [{"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}] * 2
        with pytest.raises(ValueError, match="needs 4 GPUs, 0 are visible"):
            slots(2, 2, 1, {})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    parts = [place["CUDA_VISIBLE_DEVICES"] for place in slots(2, None, 1, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"})]
    assert parts == ["4,5", "6,7"]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in slots(1, None, 3, {})] == ["0,1,2"]  # one GPU per process
    with pytest.raises(ValueError, match="choose at most"):
        slots(5, None, 1, {})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 30 MB: room for one checkpoint of full fine-tuning (24.5 MB), not for two."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", place], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_costs_checkpoints_but_no_result(small_disk: Path, tmp_path: Path) -> None:
    run, inputs = question("full")
    expected = execute(run, inputs)
    with pytest.warns(UserWarning, match=r"step 2 .* \(No space left on device\): the one of step 1 stays"):
        record = session(run, inputs, small_disk / "c", None, Pace(steps=1))
    assert result(record) == result(expected)
    assert [p.name[:8] for p in (small_disk / "c").iterdir()] == ["00000001"]
    assert result(session(run, inputs, small_disk / "c", None)) == result(expected)  # from step 1


def test_a_folder_that_turns_read_only_costs_checkpoints_but_no_result(small_disk: Path) -> None:
    run, inputs = question("spiel")  # small checkpoints
    expected = execute(run, inputs)
    taken = small_disk / "c"

    def watch(phase: str, done: int, total: int, note: str = "") -> None:
        if phase == "train" and done == 3:
            subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.warns(UserWarning, match=r"\(Read-only file system\): the one of step 2 stays"):
        record = execute(run, replace(inputs, watch=watch, keeper=Keeper(Checkpoints(taken), Pace(steps=1), Stop())))
    assert result(record) == result(expected)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert result(session(run, inputs, taken, None)) == result(expected)  # from step 2


def test_a_read_only_results_folder_is_named_and_can_still_be_read(small_disk: Path, cli: Cli) -> None:
    asked = ["plateau", "--preset", "smoke", "--methods", "lora", "--steps", "2", "--limit", "1"]
    assert cli("run", *asked, "--results", str(small_disk)).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for command in (["run", *asked], ["table", "plateau"]):
        done = cli(*command, "--results", str(small_disk))
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert f"{small_disk / 'runs'} is not writable: choose another with --results" in done.stderr
    (row,) = json.loads(cli("status", "--json", "--results", str(small_disk)).stdout)
    assert row["status"] == "done"
    assert cli("show", row["key"], "--results", str(small_disk)).returncode == 0


def test_a_record_that_does_not_fit_is_named_and_made_once_there_is_room(small_disk: Path) -> None:
    command = [sys.executable, "-m", "smt_bench", "run", "plateau", "--preset", "smoke", "--methods", "lora"]
    command += ["--steps", "2", "--limit", "1", "--results", str(small_disk)]
    Store(small_disk).runs.mkdir()
    (small_disk / "filler").write_bytes(
        bytes(28 * 2**20)
    )  # room for a claim and an index, not for what is kept for a record
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(r"runs/[0-9a-f]{16}\.json: No space left on device", done.stderr.splitlines()[-1])
    assert [p for p in Store(small_disk).runs.iterdir()] == []
    (small_disk / "filler").unlink()
    assert subprocess.run(command, capture_output=True, timeout=100, check=False).returncode == 0
    assert [r["status"] for r in Store(small_disk).records()] == ["done"]


def test_status_tells_what_runs_where_and_what_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    running, waiting = question("smt")[0], question("dora")[0]
    crashed = replace(running, seed=5)
    Index.read(tmp_path / "plateau" / "tiny").add([running, waiting, crashed])
    held = Locks(store.runs).take(running.key)
    assert held is not None
    Locks(store.runs).path(crashed.key).write_text(json.dumps({**held.owner, "pid": 2**22 + 1}))
    for step in (1, 2, 3):
        held.say("train", step, 10)
        time.sleep(0.02)
    held.start(lambda: None)
    deadline = time.monotonic() + 30
    while not Locks(store.runs).progress(running.key) and time.monotonic() < deadline:
        time.sleep(0.05)
    rows = {row["key"]: row for row in collect(store)}
    held.release()
    row = rows[running.key]
    assert (row["status"], row["run"], row["experiment"]) == ("running", "smt 4 % seed 0", "plateau/tiny")
    assert (row["phase"], row["done"], row["total"], row["pid"]) == ("train", 3, 10, os.getpid())
    assert row["eta_seconds"] >= 0 and row["since"] and row["host"]
    assert rows[waiting.key]["status"] == "missing"
    assert rows[crashed.key]["status"] == "interrupted"


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
    assert sorted(p.suffix for p in store.runs.iterdir()) == [".json", ".json"]


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
    assert sorted(p.suffix for p in store.runs.iterdir()) == [".json", ".retried"]

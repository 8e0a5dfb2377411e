"""Whose claim it is: where clocks move, where several hosts number their processes alike, where dates lie in the future."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from short_runs import question

from smt_bench.machine import process
from smt_bench.machine.spread import ALONE
from smt_bench.records.store import Store
from smt_bench.sweep import locks, workers
from smt_bench.sweep.deaths import Deaths
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.loop import sweep


def test_a_clock_that_moves_kills_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    held = Locks(tmp_path).take("k")
    assert held is not None
    # What a process's start is by the clock, after the clock was set.
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: time.time() + 3600)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert Locks(tmp_path).take("k") is None


def test_the_start_of_a_process_is_a_count_and_says_which_one_is_meant() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = {**process.myself(), "pid": other.pid, "start": process.started(other.pid)}
    assert process.alive(mine) is True
    assert process.alive({**mine, "start": process.started(os.getpid())}) is False  # the number was given again
    assert process.alive({**mine, "place": "elsewhere"}) is None
    assert process.alive({}) is None and process.alive({**mine, "pid": "1"}) is None
    other.kill()
    while process.started(other.pid) is not None:  # soon only its remains are there
        time.sleep(0.01)
    assert process.alive(mine) is False
    other.wait()
    assert process.alive(mine) is False


def test_names_of_programs_do_not_confuse_the_count(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    running = subprocess.Popen([str(program), "60"])
    began = process.started(running.pid)
    ticks = os.sysconf("SC_CLK_TCK")
    running.kill()
    running.wait()
    assert began is not None
    up = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 <= up - int(began) / ticks < 60


def test_an_owner_of_the_same_number_in_another_container_is_not_this_process(tmp_path: Path) -> None:
    """Containers share the machine's start, not the process namespace."""
    here = Locks(tmp_path)
    held = here.take("k")
    assert held is not None
    boot = process.place().rsplit(" ", 1)[0]
    for other in (f"{boot} pid:[1]", process.place().replace(boot.split()[1], "another start")):
        here.path("k").write_text(json.dumps({**held.owner, "token": "t", "place": other, "start": "1"}))
        assert Locks(tmp_path).take("k") is None  # dead by its number, but that is not for us to say
    held.release()
    assert here.owner("k") is not None


def test_workers_of_two_sweeps_with_one_process_id_leave_each_other_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, store, run = [], Store(tmp_path), question("smt")[0]

    def start(name: str, *_: object) -> None:
        names.append(name)
        raise ValueError("enough")

    monkeypatch.setattr(workers.Worker, "start", start)
    for _ in range(2):
        from smt_bench.machine.signals import Stop

        with pytest.raises(ValueError, match="enough"):
            workers.supervise(tmp_path / "order", ALONE, [{}], [run], store, Console(file=io.StringIO()), Stop())
    assert len(set(names)) == 2 and all(process.myself()["host"] in name for name in names)
    # The claim of the other one's worker stays, and no record is written in its name.
    held = Locks(store.runs).take(run.key)
    assert held is not None
    Locks(store.runs).path(run.key).write_text(json.dumps({**held.owner, "worker": names[0]}))
    dead = workers.Worker(names[1], {}, tmp_path / "log", subprocess.Popen([sys.executable, "-c", ""]), 1)
    assert not workers._crashed(dead, -9, [run], store, Deaths(store))
    assert Locks(store.runs).path(run.key).exists() and store.read(run.key) is None


def test_a_claim_dated_in_the_future_is_given_up_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Locks(tmp_path)
    held = here.take("k")
    assert held is not None
    here.path("k").write_text(
        json.dumps({**held.owner, "token": "t", "place": "elsewhere", "host": "node7", "pid": 12})
    )
    ahead = time.time() + 10**6
    os.utime(here.path("k"), (ahead, ahead))
    assert here.take("k") is None
    assert "process 12 on node7" in here.waits_for("k") and "s ahead; given up after 300 s" in here.waits_for("k")
    monkeypatch.setattr(locks, "EXPIRY", 0.3)
    assert here.take("k") is None
    time.sleep(0.15)
    os.utime(here.path("k"), (ahead + 10, ahead + 10))  # a sign of life
    assert here.take("k") is None
    time.sleep(0.2)
    assert here.take("k") is None
    time.sleep(0.2)
    assert here.take("k") is not None


def test_a_sweep_that_waits_says_for_whom(tmp_path: Path) -> None:
    store, run = Store(tmp_path), question("smt")[0]
    held = Locks(store.runs).take(run.key)
    assert held is not None
    said = io.StringIO()

    class Enough(Exception):
        pass

    rounds = []

    def idle() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            raise Enough

    with pytest.raises(Enough):
        sweep([run], store, lambda *_: pytest.fail("started"), Console(file=said, width=200), idle=idle)
    assert said.getvalue().count("\n") == 1
    assert f"waiting for smt 4 % seed 0: process {os.getpid()} on " in said.getvalue()

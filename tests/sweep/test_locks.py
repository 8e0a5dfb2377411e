"""Claims on runs: exclusive, released, taken over from the dead and from no one else."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from short_runs import question

from smt_bench.machine.signals import Stop
from smt_bench.records.store import Store
from smt_bench.sweep import locks
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.loop import Interrupted, sweep


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

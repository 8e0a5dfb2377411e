"""Who is doing which run: a claim file beside the record, without a lock server.

`<key>.claim` is an exclusive file (`records.exclusive`). Its owner touches it every few seconds. A claim is void as soon as its
process is gone; an owner on another machine or in another container, whose processes cannot be seen from here, is given up once
the file has not been touched for `EXPIRY`: by the file server's clock, or, should its date lie in the future, by our own.
`<key>.progress` says how far the run is, for `status`.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from smt_bench.machine import process
from smt_bench.machine.files import write_text
from smt_bench.machine.process import Owner
from smt_bench.records import exclusive
from smt_bench.records.exclusive import owner_of as _owner
from smt_bench.records.files import BenchWarning

BEAT = 10.0  # seconds between touches
EXPIRY = 300.0  # seconds; far above the beat and above what network file systems cache
WORKER = "SMT_BENCH_WORKER"  # environment: which of a sweep's worker processes this is
PARENT = "SMT_BENCH_PARENT"  # environment: process whose end ends this one


class Locks:
    """The claims in a folder of records.

    Args:
        folder: `results/runs`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, tuple[Any, int, float]] = {}  # by run: owner, date, and when this process first saw both

    def path(self, key: str) -> Path:
        """The claim on a run."""
        return self.folder / f"{key}.claim"

    def progress_path(self, key: str) -> Path:
        """How far the run is."""
        return self.folder / f"{key}.progress"

    def take(self, key: str) -> Lock | None:
        """Locks a run for this process; None while another one has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        found = self.owner(key)
        if found is not None:
            if self.alive(key, found):
                return None
            self._void(key, found)
        owner = {**process.myself(), **_self(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        if not exclusive.create(self.path(key), owner):
            return None
        for left in self.folder.glob(f".{key}.*"):  # half-written files of a process that was killed
            if ".void." not in left.name:  # another process may be about to give that claim back: it is this one
                left.unlink(missing_ok=True)
        return Lock(self, key, owner)

    def owner(self, key: str) -> Owner | None:
        """Who has the run, alive or not; None where nobody has. An unreadable claim belongs to an unknown owner."""
        try:
            return _owner(self.path(key))
        except FileNotFoundError:
            return None
        except OSError:
            return {}

    def alive(self, key: str, owner: Owner) -> bool:
        """Whether the owner is still at work; of one that cannot be seen from here, whether it was in the last `EXPIRY`."""
        here = _self()
        if owner.get("job") and owner["job"] == here["job"] and owner.get("restart", 0) < here["restart"]:
            return False  # this very job, before SLURM started it again
        there = process.alive(owner)
        return self._silence(key, owner) < EXPIRY if there is None else there

    def _silence(self, key: str, owner: Owner) -> float:
        """Seconds since the claim was touched, or since this process has seen it untouched, whichever is more."""
        try:
            date = self.path(key).stat()
        except OSError:
            return EXPIRY
        seen = self._seen.get(key)
        if seen is None or seen[:2] != (owner.get("token"), date.st_mtime_ns):
            seen = self._seen[key] = (owner.get("token"), date.st_mtime_ns, time.monotonic())
        return max(self._now() - date.st_mtime, time.monotonic() - seen[2])

    def _now(self) -> float:
        """The file server's time: clocks may differ."""
        try:
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                return os.fstat(probe.fileno()).st_mtime
        except OSError:
            return time.time()  # only looking, in a folder that this process must not write

    def waits_for(self, key: str) -> str:
        """Who has the run, and when it is given up, in words."""
        owner = self.owner(key)
        if owner is None:
            return "nobody any more"
        if process.alive(owner) is not None:
            return process.named(owner)
        with contextlib.suppress(OSError):
            ahead = self.path(key).stat().st_mtime - self._now()
            if ahead > BEAT:
                return f"{process.named(owner)} (dated {ahead:.0f} s ahead; given up after {EXPIRY:.0f} s without a sign of life)"
        return f"{process.named(owner)} (given up after {EXPIRY:.0f} s without a sign of life)"

    def progress(self, key: str) -> dict[str, Any]:
        """What the owner last said; empty where nothing is known."""
        try:
            said: dict[str, Any] = json.loads(self.progress_path(key).read_text(encoding="utf-8"))
            return said
        except (OSError, ValueError):
            return {}

    def drop(self, key: str) -> None:
        """Removes claim and progress."""
        self.progress_path(key).unlink(missing_ok=True)
        self.path(key).unlink(missing_ok=True)

    def _void(self, key: str, dead: Owner) -> None:
        """Takes a dead owner's claim away."""
        exclusive.take_away(self.path(key), dead, self.folder / f".{key}.void.{uuid.uuid4().hex}")


class Lock:
    """A run that this process has; touched from a thread of its own until `release`.

    Args:
        locks: the folder.
        key: the run.
        owner: this process, as written.
    """

    def __init__(self, locks: Locks, key: str, owner: Owner) -> None:
        self.locks, self.key, self.owner = locks, key, owner
        self._said: dict[str, Any] = {}
        self._written: dict[str, Any] = {}
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, lost: Callable[[], None]) -> None:
        """Starts touching.

        Args:
            lost: called once if another process took the run over, or the parent is gone.
        """
        self._thread = threading.Thread(target=self._beat, args=(lost,), daemon=True)
        self._thread.start()

    def say(self, phase: str, done: int, total: int) -> None:
        """Progress: `done` of `total` units of `phase`."""
        now = time.time()
        if self._said.get("phase") != phase:
            self._said = {"phase": phase, "first": done, "first_at": now}
        self._said = {**self._said, "done": done, "total": total, "at": now}

    def release(self) -> None:
        """Gives the run up; a claim that another process has taken over stays."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        if (self.locks.owner(self.key) or {}).get("token") == self.owner["token"]:
            self.locks.drop(self.key)

    def _beat(self, lost: Callable[[], None]) -> None:
        parent = int(os.environ.get(PARENT, "0"))
        wait = 1.0  # soon at first: whoever asks for the status sees something
        while not self._end.wait(wait):
            wait = BEAT
            try:
                mine = self._mine()
                if not mine:
                    message = f"run {self.key} was taken over, this process was silent for too long: leaving"
                    warnings.warn(message, BenchWarning, stacklevel=2)
                if not mine or (parent and not psutil.pid_exists(parent)):
                    lost()
                    return
                os.utime(self.locks.path(self.key))
                if self._said != self._written:
                    self._written = self._said
                    write_text(self.locks.progress_path(self.key), json.dumps(self._written))
            except OSError:
                continue  # a full disk, a server that is away: the next beat may succeed, and no result depends on it

    def _mine(self) -> bool:
        """Whether the claim is still this process's.

        Raises:
            OSError: that cannot be told now.
        """
        try:
            return bool(_owner(self.locks.path(self.key)).get("token") == self.owner["token"])
        except FileNotFoundError:
            return False


def _self() -> Owner:
    """What a claim says of this process besides which one it is."""
    return {
        "worker": os.environ.get(WORKER),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    }

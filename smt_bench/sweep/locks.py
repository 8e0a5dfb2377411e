"""Who is doing which run: a claim file beside the record, without a lock server.

`<key>.claim` is made complete or not at all by a hard link, which fails where one exists, also on network file systems. Its
owner touches it every few seconds. A claim is void as soon as its process is gone; an owner on another machine, whose
processes cannot be seen from here, is given up once the file has not been touched for `EXPIRY` by the file server's clock.
`<key>.progress` says how far the run is, for `status`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from smt_bench.records.files import BenchWarning, write_text

BEAT = 10.0  # seconds between touches
EXPIRY = 300.0  # seconds; far above the beat and above what network file systems cache
WORKER = "SMT_BENCH_WORKER"  # environment: which of a sweep's worker processes this is
PARENT = "SMT_BENCH_PARENT"  # environment: process whose end ends this one

Owner = dict[str, Any]


class Locks:
    """The claims in a folder of records.

    Args:
        folder: `results/runs`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        owner = {"token": uuid.uuid4().hex, **_self(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        if not self._create(key, owner):
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
        """Whether the owner is still at work."""
        if owner.get("job") and owner["job"] == _self()["job"] and owner["restart"] < _self()["restart"]:
            return False  # this very job, before SLURM started it again
        if owner.get("place") == _place():
            try:
                return abs(psutil.Process(owner["pid"]).create_time() - owner["began"]) < 2
            except (psutil.Error, KeyError, TypeError):
                return False
        try:
            touched = self.path(key).stat().st_mtime
        except OSError:
            return False
        try:
            with tempfile.TemporaryFile(dir=self.folder) as probe:
                now = os.fstat(probe.fileno()).st_mtime  # both times are the file server's: clocks may differ
        except OSError:
            now = time.time()  # only looking, in a folder that this process must not write
        return now - touched < EXPIRY

    def progress(self, key: str) -> dict[str, Any]:
        """What the owner last said; empty where nothing is known."""
        try:
            return json.loads(self.progress_path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def drop(self, key: str) -> None:
        """Removes claim and progress."""
        self.progress_path(key).unlink(missing_ok=True)
        self.path(key).unlink(missing_ok=True)

    def _create(self, key: str, owner: Owner) -> bool:
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=f".{key}.claim.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(owner, file)
            os.link(temporary, self.path(key))
        except (FileExistsError, FileNotFoundError):  # the latter: the new owner has cleaned up
            return False
        finally:
            Path(temporary).unlink(missing_ok=True)
        return True

    def _void(self, key: str, dead: Owner) -> None:
        """Takes a dead owner's claim away; of several that try, one does."""
        aside = self.folder / f".{key}.void.{uuid.uuid4().hex}"
        try:
            self.path(key).rename(aside)
            if _owner(aside).get("token") != dead.get("token"):
                # Another was faster, and this is its claim: give it back.
                os.link(aside, self.path(key))
        except (FileNotFoundError, FileExistsError):
            pass  # somebody else did it
        aside.unlink(missing_ok=True)


class Lock:
    """A run that this process has; touched from a thread of its own until `release`.

    Args:
        claims: the folder.
        key: the run.
        owner: this process, as written.
    """

    def __init__(self, claims: Locks, key: str, owner: Owner) -> None:
        self.claims, self.key, self.owner = claims, key, owner
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
        if (self.claims.owner(self.key) or {}).get("token") == self.owner["token"]:
            self.claims.drop(self.key)

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
                os.utime(self.claims.path(self.key))
                if self._said != self._written:
                    self._written = self._said
                    write_text(self.claims.progress_path(self.key), json.dumps(self._written))
            except OSError:
                continue  # a full disk, a server that is away: the next beat may succeed, and no result depends on it

    def _mine(self) -> bool:
        """Whether the claim is still this process's.

        Raises:
            OSError: that cannot be told now.
        """
        try:
            return _owner(self.claims.path(self.key)).get("token") == self.owner["token"]
        except FileNotFoundError:
            return False


def _owner(path: Path) -> Owner:
    """Who wrote a claim; empty where it is damaged.

    Raises:
        OSError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@cache
def _place() -> str:
    """This machine since its start, and this process namespace: where process numbers mean the same."""
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        space = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {boot} {space}"


def _self() -> Owner:
    return {
        "host": socket.gethostname(),
        "place": _place(),
        "pid": os.getpid(),
        "began": psutil.Process().create_time(),
        "worker": os.environ.get(WORKER),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
    }

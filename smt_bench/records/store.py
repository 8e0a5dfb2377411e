"""Records on disk: one JSON file per run, written atomically, versioned, never half-read.

A record holds `schema`, `key`, `run`, `status` (done, diverged, out_of_memory, failed) and what was measured. Older schemas are
upgraded on reading. What cannot be believed (`records.trust`) is named, left out and left alone: reading changes no file, so that
a newer version's records survive an older one. Only `write` and whoever is about to do a run again set a damaged record aside.
"""

from __future__ import annotations

import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from smt_bench.machine.files import write_text
from smt_bench.records import texts
from smt_bench.records.files import BenchWarning, Room, check_writable, set_aside
from smt_bench.records.partial import shrunk, whole
from smt_bench.records.runs import Question, Run
from smt_bench.records.survey import NAME
from smt_bench.records.trust import SCHEMA, Damaged, Newer, Record, check, examined, sealed

__all__ = ["FINISHED", "SCHEMA", "Record", "Store", "finished"]

T = TypeVar("T")
FINISHED = ("done", "diverged")  # outcomes of the question itself; out_of_memory and failed are worth another try
ROOM = 4 << 20  # bytes kept for a record; 22,000 test examples take 2 MB
MANY = 2000  # records from which several processes read them
SHARE = 250  # records that a process reads at a time
NAMED = 20  # records left out that are named one by one


def finished(records: Iterable[Record], model: str) -> list[Record]:
    """The measurements that came to an end.

    Raises:
        ValueError: none did; says what became of them.
    """
    records = list(records)
    done = [r for r in records if r["status"] == "done"]
    if not done:
        lost = "; ".join(f"seed {r['run']['seed']}: {r['message']}" for r in records)
        raise ValueError(f"no measurement of {model} was finished ({lost}): run it again with --retry failed")
    return done


class Store:
    """The results folder.

    Args:
        root: records go to `root/runs`, tables and figures to `root/<experiment>/<model>`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"
        self._told: dict[str, None] = {}
        self._tells = True

    def check_writable(self, *folders: Path) -> None:
        """Looks whether the folder of the records and `folders` can be written or made; creates nothing.

        Raises:
            ValueError: it cannot.
        """
        check_writable(f"results folder {self.root}", "--results", self.runs, *folders)

    def path(self, key: str) -> Path:
        """Where the record of `key` is, or would be."""
        return self.runs / f"{key}.json"

    def room(self, run: Question) -> Room:
        """Space for the record of a run, before the run is done.

        Raises:
            OSError: there is none on the disk.
        """
        return Room(self.path(run.key), ROOM + (64 * run.train.steps if isinstance(run, Run) else 0))

    def write(self, record: Record, room: Room | None = None) -> None:
        """Stores a record; a finished one is never overwritten, even where another process was faster.

        Args:
            record: of the current schema.
            room: space that was kept for it.

        Raises:
            ValueError: a newer version's record is there.
            OSError: it cannot be written; names the file.
        """
        record = dict(record)
        kept = record.pop("texts", None)  # what was generated has a file of its own
        self.set_damaged_aside(record["key"])
        old = self.read(record["key"])
        if old is not None and old["status"] in FINISHED:
            warnings.warn(f"record {record['key']} was finished meanwhile: kept as it is", BenchWarning, stacklevel=2)
            return
        try:
            check(record, record["key"])
        except Exception as error:
            raise AssertionError(f"record {record['key']} would not be believed: {error}") from error
        if room is None:
            write_text(self.path(record["key"]), sealed(record))
        else:
            room.fill(sealed(record))
        if kept:
            texts.write(self.runs, record["key"], kept)

    def read(self, key: str) -> Record | None:
        """The record of `key`, upgraded to the current schema; None where there is none, or, with a warning, a damaged one.

        Raises:
            ValueError: the record was written by a newer version, asks what this one does not know, or cannot be read now.
        """
        path = self.path(key)
        try:
            return examined(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ValueError(
                f"record {path} cannot be read ({error.strerror}): check the folder and its permissions"
            ) from None
        except Newer as error:
            raise ValueError(f"record {path}: {error}") from None
        except Damaged as error:
            self._warn(f"record {path.name} left out: {error}")
            return None

    def set_damaged_aside(self, key: str) -> None:
        """Takes a damaged record out of the way; only for whoever has the run and is about to do it again."""
        path = self.path(key)
        try:
            examined(path.read_bytes(), key)
        except Damaged as error:
            aside = set_aside(path, "damaged")
            warnings.warn(f"record {path.name} set aside as {aside.name}: {error}", BenchWarning, stacklevel=2)
        except (FileNotFoundError, Newer):
            pass

    def set_failed_aside(self, key: str) -> None:
        """Takes the record of a failed run out of use, so that it is done again."""
        if (self.read(key) or {"status": "done"})["status"] not in FINISHED:
            set_aside(self.path(key), "retried")

    def keys(self) -> list[str]:
        """Of the files that are named like records, in order."""
        try:
            return sorted(name[:-5] for name in os.listdir(self.runs) if NAME.fullmatch(name))
        except FileNotFoundError:
            return []

    def records(self, keys: Iterable[str] | None = None) -> list[Record]:
        """The records of `keys` (all by default) that exist, in the order of the keys (or names).

        Damaged ones and those of a newer version are left out with a warning.
        """
        return [
            record for key in (self.keys() if keys is None else keys) if (record := self._readable(key)) is not None
        ]

    def for_tables(self, keys: Iterable[str]) -> list[Record]:
        """As `records`, for any number of them: what tables do not read stays in the files (`records.partial`)."""
        return [whole(small, self.again) for small in self.mapped(keys, partial(shrunk, pool={}))]

    def mapped(self, keys: Iterable[str], made: Callable[[Record], T]) -> list[T]:
        """What `made` makes of every record of `keys` that can be read, in their order; very many are read by several processes.

        Args:
            keys: of the records.
            made: a function that can be sent to a process.
        """
        wanted = list(keys)
        shares = [wanted[i : i + SHARE] for i in range(0, len(wanted), SHARE)]
        collects = gc.isenabled()
        gc.disable()  # nothing here refers to itself, and looking for that among millions of objects takes longer than reading
        try:
            if len(wanted) < MANY:
                return self._heard(map(partial(_share, self.root, made), shares))
            with ProcessPoolExecutor(min(4, os.cpu_count() or 1), initializer=_leave_signals) as pool:
                return self._heard(pool.map(partial(_share, self.root, made), shares))
        finally:
            if collects:
                gc.enable()

    def missing(self, runs: Iterable[Question]) -> list[Question]:
        """The runs without a finished record."""
        return [run for run in runs if (self.read(run.key) or {"status": None})["status"] not in FINISHED]

    def resolve(self, prefix: str) -> Record:
        """The one record whose key starts with `prefix`.

        Raises:
            ValueError: none or several, or it cannot be believed.
        """
        keys = [key for key in self.keys() if key.startswith(prefix)]
        if len(keys) != 1 or not prefix:
            what = f"{len(keys)} records in {self.runs} start" if keys else f"no record in {self.runs} starts"
            raise ValueError(f"key {prefix!r}: {what} with it: see `list runs`")
        record = self.read(keys[0])
        if record is None:
            raise ValueError(f"record {keys[0]} is damaged: the same `run` sets it aside and does it again")
        return record

    def _readable(self, key: str) -> Record | None:
        try:
            return self.read(key)
        except ValueError as error:
            self._warn(f"{error}: left out")
            return None

    def again(self, key: str) -> Record:
        """A record that was read before.

        Raises:
            ValueError: it is gone.
        """
        record = self.read(key)
        if record is None:
            raise ValueError(f"record {self.path(key)} was there a moment ago: repeat the command")
        return record

    def _heard(self, shares: Iterable[tuple[list[T], list[str]]]) -> list[T]:
        found, lines = list[T](), list[str]()
        for some, said in shares:
            found += some
            lines += said
        self._warn(*lines)
        return found

    def _warn(self, *lines: str) -> None:
        """Says what is left out, once: a sweep looks at the same record again and again; of very many, not each."""
        before = len(self._told)
        self._told |= dict.fromkeys(lines)
        if not self._tells:
            return
        for line in islice(self._told, before, NAMED):
            warnings.warn(line, BenchWarning, stacklevel=3)
        if before <= NAMED < len(self._told):
            count = f"{len(self._told) - NAMED:,} more" if len(lines) > 1 else "more"
            what = f"{count} records are left out, not named here: see `python -m smt_bench status`"
            warnings.warn(what, BenchWarning, stacklevel=3)


def _leave_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches every process; the one that waits for them says so


def _share(root: Path, made: Callable[[Record], T], keys: list[str]) -> tuple[list[T], list[str]]:
    """What is made of some of the records, and what there is to say about them; also in a process of its own."""
    store = Store(root)
    store._tells = False
    found = [made(record) for key in keys if (record := store._readable(key)) is not None]
    return found, list(store._told)

"""Records on disk: one JSON file per run, written atomically, versioned, never half-read.

A record holds `schema`, `key`, `run`, `status` (done, diverged, out_of_memory, failed) and what was measured. Older
schemas are upgraded on reading, newer ones refused. A file that cannot be trusted is set aside under a name of its own.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from smt_bench.records.files import BenchWarning, write_text
from smt_bench.records.runs import Question, question

SCHEMA = 1
Record = dict[str, Any]
UPGRADES: dict[int, Callable[[Record], Record]] = {}  # from schema n to n + 1

STATUSES = ("done", "diverged", "out_of_memory", "failed")
FINISHED = ("done", "diverged")  # outcomes of the question itself; out_of_memory and failed are worth another try


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


def check_writable(what: str, option: str, *folders: Path) -> None:
    """Looks whether folders can be written or made; creates nothing.

    Args:
        what: they are called in the message.
        option: with which another one is chosen.
        *folders: where files are to go.

    Raises:
        ValueError: one cannot.
    """
    for part in folders:
        place = part.absolute()
        while not place.exists():
            place = place.parent
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            why = "not writable" if place.is_dir() else "a file, not a folder"
            raise ValueError(f"{what}: {place} is {why}: choose another with {option}")


class Store:
    """The results folder.

    Args:
        root: records go to `root/runs`, tables and figures to `root/<experiment>/<model>`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"

    def check_writable(self, *folders: Path) -> None:
        """Looks whether the folder of the records and `folders` can be written or made; creates nothing.

        Raises:
            ValueError: it cannot.
        """
        check_writable(f"results folder {self.root}", "--results", self.runs, *folders)

    def path(self, key: str) -> Path:
        """Where the record of `key` is, or would be."""
        return self.runs / f"{key}.json"

    def write(self, record: Record) -> None:
        """Stores a record; a finished one is never overwritten, even where another process was faster."""
        old = self.read(record["key"])
        if old is not None and old["status"] in FINISHED:
            warnings.warn(f"record {record['key']} was finished meanwhile: kept as it is", BenchWarning, stacklevel=2)
            return
        write_text(self.path(record["key"]), json.dumps(record, indent=1, allow_nan=False) + "\n")

    def read(self, key: str) -> Record | None:
        """The record of `key`, upgraded to the current schema; None where there is none.

        A damaged file is renamed to `<key>.json.damaged` with a warning and counts as missing.

        Raises:
            ValueError: the record was written by a newer version, or asks what this one does not know.
        """
        path = self.path(key)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            _set_aside(path, "it is not text")
            return None
        except OSError as error:
            raise ValueError(f"record {path} cannot be read ({error.strerror}): check its permissions") from None
        try:
            record = json.loads(text)
            schema = record["schema"]
        except (ValueError, KeyError, TypeError):
            _set_aside(path, "it is not a complete record")
            return None
        if type(schema) is not int:  # True is one, to Python
            _set_aside(path, "its schema is no number")
            return None
        if schema > SCHEMA:
            raise ValueError(f"record {path} has schema {schema}, this version reads up to {SCHEMA}: update smt-bench")
        try:
            while record["schema"] < SCHEMA:
                record = UPGRADES[record["schema"]](record)
            asked = question(record["run"])
            parts = asked.SECTIONS if record["status"] == "done" else ()
            intact = record["key"] == key == asked.key and record["status"] in STATUSES
            intact = intact and all(isinstance(record[part], dict) for part in parts)
        except (KeyError, TypeError):
            intact = False
        except ValueError as error:  # a question that this version does not know
            raise ValueError(f"record {path}: {error}") from None
        if intact:
            return record
        _set_aside(path, "its content does not match its key")
        return None

    def records(self, keys: Iterable[str] | None = None) -> list[Record]:
        """The records of `keys` (all by default) that exist, in the order of the keys (or names)."""
        if keys is None:
            keys = sorted(p.stem for p in self.runs.glob("*.json") if not p.name.startswith("."))
        found = (self.read(key) for key in keys)
        return [record for record in found if record is not None]

    def missing(self, runs: Iterable[Question]) -> list[Question]:
        """The runs without a finished record."""
        return [run for run in runs if (self.read(run.key) or {"status": None})["status"] not in FINISHED]

    def resolve(self, prefix: str) -> Record:
        """The one record whose key starts with `prefix`.

        Raises:
            ValueError: none or several.
        """
        keys = sorted(p.stem for p in self.runs.glob("*.json") if p.stem.startswith(prefix))
        if len(keys) != 1 or not prefix:
            what = "no record" if not keys else f"{len(keys)} records"
            raise ValueError(f"key {prefix!r}: {what} in {self.runs} start with it: see `list runs`")
        record = self.read(keys[0])
        if record is None:
            raise ValueError(f"record {keys[0]} was damaged and has been set aside: run it again")
        return record


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(path.name + ".damaged")
    try:
        path.replace(aside)
        warnings.warn(f"record {path.name} set aside as {aside.name}: {why}", BenchWarning, stacklevel=4)
    except OSError:
        warnings.warn(f"record {path.name} ignored: {why}", BenchWarning, stacklevel=4)

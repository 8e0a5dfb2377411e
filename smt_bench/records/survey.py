"""What lies in a folder of records, at a glance: for `status` and `list`, which have to be quick in a folder of thousands.

Where the records are few, each is read and checked as everywhere else. Where they are many, only the beginning of each is read,
which holds the question and the status; whether the rest can be believed shows where it is used.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smt_bench.records.shapes import Unknown, mismatch, question_shape
from smt_bench.records.texts import SUFFIX
from smt_bench.records.trust import SCHEMA, STATUSES, Damaged, Newer, examined

FEW = 20_000_000  # bytes; a few tenths of a second
NAMED = 3
HEAD = 8192  # bytes; a question takes up to 3,000
NAME = re.compile(r"[0-9a-f]{16}\.json")
OTHERS = (".claim", ".progress", SUFFIX)  # belong to runs that are under way, and to records
_AFTER = b',\n "started"'  # follows question, status and message in a record's file


@dataclass(frozen=True)
class Found:
    """A file beside or among the records.

    Attributes:
        name: of the file.
        state: "record", "damaged", "newer", "foreign" (not named like a record) or "set aside".
        why: it is no record, in words.
        head: of a record, what it says of itself: `key`, `run`, `status`, `message`.
    """

    name: str
    state: str
    why: str = ""
    head: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """Of the run that the file answers, or would."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        files: by name.
        closely: whether every record was checked as a whole.
    """

    files: list[Found]
    closely: bool

    def told(self) -> list[str]:
        """One line per file that is in the way, three of a kind at most."""
        words = {"damaged": "left out", "newer": "left out", "foreign": "is no record: ignored"}
        lines, counts = [], Counter[str]()
        for file in self.files:
            counts[file.state] += 1
            if file.state in words and counts[file.state] <= NAMED:
                lines.append(f"{file.name} {words[file.state]}" + (f": {file.why}" if file.why else ""))
        return lines + [f"{counts[s] - NAMED} more {s} files" for s in words if counts[s] > NAMED]


def survey(folder: Path) -> Survey:
    """All files of a folder of records; none where there is no such folder. Changes nothing."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and not e.name.endswith(OTHERS))
    except FileNotFoundError:
        return Survey([], True)
    sizes: dict[str, int] = {}
    found = []
    for name in names:
        if not NAME.fullmatch(name):
            ours = NAME.fullmatch(name[:21]) and name[21:22] == "."
            found.append(Found(name, "set aside" if ours else "foreign"))
            continue
        try:
            info = os.stat(folder / name)
        except FileNotFoundError:
            continue  # just set aside
        except OSError as error:
            found.append(Found(name, "damaged", f"it cannot be read ({error.strerror})"))
            continue
        if stat.S_ISREG(info.st_mode):
            sizes[name] = info.st_size
        else:
            found.append(Found(name, "foreign", "it is not a file"))
    few = sum(sizes.values()) <= FEW
    found += [look(folder / name, few) for name in sizes]
    return Survey(sorted(found, key=lambda f: f.name), few)


def look(path: Path, closely: bool) -> Found:
    """One file, named like a record.

    Args:
        path: the file.
        closely: check all of it; else only that it begins and ends like a record.
    """
    key = path.stem
    try:
        with path.open("rb") as file:
            head = None if closely else _head(file, key)
            if head is None:
                file.seek(0)
                record = examined(file.read(), key)
                head = {name: record[name] for name in ("key", "run", "status", "message")}
        return Found(path.name, "record", head=head)
    except Newer as error:
        return Found(path.name, "newer", str(error))
    except Damaged as error:
        return Found(path.name, "damaged", str(error))
    except OSError as error:
        return Found(path.name, "damaged", f"it cannot be read ({error.strerror})")


def _head(file: Any, key: str) -> dict[str, Any] | None:
    """What a record says first; None where only reading all of it can tell."""
    start = file.read(HEAD)
    end = start.find(_AFTER)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2))
    if end < 0 or file.read(2) != b"}\n":
        return None
    try:
        head = json.loads(start[:end].rpartition(b',\n "step"')[0] + b"}")
        told = {name: head[name] for name in ("key", "run", "status", "message")}
        good = head["schema"] <= SCHEMA and head["key"] == key and head["status"] in STATUSES
        return told if good and not mismatch(head["run"], question_shape("kind" in head["run"])) else None
    except (ValueError, KeyError, TypeError, Unknown):
        return None

"""Files that only one process can make: what says who is at work on something, also on network file systems.

Such a file is made complete or not at all by a hard link, which fails where one exists. Whoever finds one whose owner is gone
may take it away.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from smt_bench.machine import process
from smt_bench.machine.files import naming
from smt_bench.machine.process import Owner
from smt_bench.records.files import BenchWarning

PAUSE = 0.05  # seconds between tries
SAYS = 3.0  # seconds after which waiting is explained
SILENT = 30.0  # seconds after which an owner elsewhere, who needs milliseconds, is taken for dead
PATIENCE = 120.0  # seconds


def owner_of(path: Path) -> Owner:
    """Who made a file; empty where it is damaged.

    Raises:
        OSError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def create(path: Path, owner: Owner) -> bool:
    """Makes the file, or says that somebody else has.

    Raises:
        OSError: it cannot be written; names it.
    """
    with naming(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(owner, file)
            os.link(temporary, path)
        except FileExistsError:
            # A file server whose answer was lost says so about a link that it has made.
            with contextlib.suppress(OSError):
                return os.stat(temporary).st_nlink == 2
            return False
        except FileNotFoundError:  # the new owner has cleaned up
            return False
        finally:
            Path(temporary).unlink(missing_ok=True)
    return True


def take_away(path: Path, dead: Owner, aside: Path) -> None:
    """Removes a dead owner's file; of several that try, one does.

    Args:
        path: the file.
        dead: its owner, as read before.
        aside: a name of its own, to look at it once more where nobody else can.
    """
    try:
        path.rename(aside)
        if owner_of(aside).get("token") != dead.get("token"):
            # Another was faster, and this is its file: give it back.
            os.link(aside, path)
    except (FileNotFoundError, FileExistsError):
        pass  # somebody else did it
    aside.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """Keeps other processes out for the moment that it takes to change a file.

    Args:
        path: of the lock; its folder is made.
        what: is waited for, in words.

    Raises:
        ValueError: another process has it, and does not seem to end.
        OSError: the lock cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = {**process.myself(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    began, said = time.monotonic(), False
    first: tuple[str | None, float] = (None, began)  # whose it is, and since when that has been seen
    while not create(path, owner):
        try:
            other = owner_of(path)
        except OSError:
            continue  # just given back
        now = time.monotonic()
        if other.get("token") != first[0]:
            first = (other.get("token"), now)
        there = process.alive(other)
        if there is False or (there is None and now - first[1] > SILENT):
            take_away(path, other, path.with_name(f".{path.name}.void.{uuid.uuid4().hex}"))
            continue
        if now - began > PATIENCE:
            raise ValueError(f"{what}: {process.named(other)} does not end; if it is gone, remove {path}")
        if not said and now - began > SAYS:
            said = True
            warnings.warn(f"waiting for {what}: {process.named(other)} has {path}", BenchWarning, stacklevel=3)
        time.sleep(PAUSE)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if owner_of(path).get("token") == owner["token"]:
                path.unlink(missing_ok=True)

"""Room that is kept for files, files set aside, and warnings meant for users."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from smt_bench.machine.files import naming, write_text


class BenchWarning(UserWarning):
    """Something a user has to know although the work goes on."""


def set_aside(path: Path, ending: str) -> Path:
    """Renames a file to `<name>.<ending>`, with a number where there is one already; never overwrites.

    Raises:
        OSError: it cannot be renamed.
    """
    number = 1
    while True:
        aside = path.with_name(f"{path.name}.{ending}" + (f"-{number}" if number > 1 else ""))
        try:
            os.link(path, aside)
        except FileExistsError:
            number += 1
            continue
        path.unlink()
        return aside


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


class Room:
    """Space on the disk for a file that will be written later, when there may be none left.

    Args:
        path: the file.
        size: bytes.

    Raises:
        OSError: there is no such space now; names `path`.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.room.")
            self._held = Path(name)
            try:
                _allocate(self._handle, size)
            except BaseException:
                self.give_back()
                raise

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def fill(self, text: str) -> None:
        """Writes the file into its space, as `write_text` does.

        Raises:
            OSError: it is larger than its space and the disk is full, or cannot be written at all.
        """
        content = text.encode()
        with naming(self.path):
            os.lseek(self._handle, 0, os.SEEK_SET)
            left = memoryview(content)
            while left:
                left = left[os.write(self._handle, left) :]
            os.ftruncate(self._handle, len(content))
            os.fsync(self._handle)
            os.fchmod(self._handle, 0o644)
            try:
                os.replace(self._held, self.path)
            except FileNotFoundError:  # tidied away by a process that took this one for dead
                write_text(self.path, text)

    def give_back(self) -> None:
        """Frees the space; does nothing the second time."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
            self._held.unlink(missing_ok=True)


def _allocate(handle: int, size: int) -> None:
    try:
        os.posix_fallocate(handle, 0, size)
        return
    except AttributeError:
        pass  # not on this system
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not on this file system
            raise
    left = size
    while left > 0:
        left -= os.write(handle, bytes(min(left, 1 << 20)))

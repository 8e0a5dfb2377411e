"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets an error of the disk say which file could not be written, whatever its temporary name was."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def write_whole(path: Path, fill: Callable[[IO[bytes]], object], named: Callable[[Path], Path] | None = None) -> Path:
    """Writes a file so that a reader sees the old or the new content, never half of it, also after a power cut.

    Args:
        path: the file; with `named` only its folder and the beginning of the temporary name count.
        fill: writes the content.
        named: the file's path from the finished temporary one, for names that say what is inside.

    Returns:
        Where the file is.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            target = path if named is None else named(temporary)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return target


def write_text(path: Path, text: str) -> None:
    """`write_whole` of a text, in UTF-8."""
    write_whole(path, lambda file: file.write(text.encode()))

"""What a model wrote to every test question, and which item of the test file each was: beside the record, compressed.

A record holds what tables need; the text is for whoever wants to know why an answer could not be read. A record without such a
file is as good as any.
"""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path
from typing import Any

from smt_bench.machine.files import write_whole
from smt_bench.records.files import BenchWarning

SUFFIX = ".examples.json.gz"
SCHEMA = 1
Texts = dict[
    str, dict[str, list[Any]]
]  # task -> `item` (number in the test file, from 0) and, where it was generated, `text`


def path(runs: Path, key: str) -> Path:
    """Where they are, or would be."""
    return runs / f"{key}{SUFFIX}"


def write(runs: Path, key: str, texts: Texts) -> None:
    """Stores them; where the disk does not take them the record stands without, and a warning says so."""
    content = json.dumps({"schema": SCHEMA, "key": key, "tasks": texts}, separators=(",", ":")).encode()
    try:
        write_whole(path(runs, key), lambda file: file.write(gzip.compress(content, mtime=0)))
    except OSError as error:
        warnings.warn(f"generated text of {key} is not kept: {error}", BenchWarning, stacklevel=3)


def read(runs: Path, record: dict[str, Any]) -> Texts:
    """Those of a record, as far as there are any.

    Raises:
        ValueError: the file is damaged, of a newer version, or of other answers than the record's.
    """
    file = path(runs, record["key"])
    try:
        found = json.loads(gzip.decompress(file.read_bytes()))
        if found["schema"] > SCHEMA:
            raise ValueError(f"{file} was written by a newer version: update smt-bench")
        tasks: Texts = found["tasks"]
        counts = {task: {len(column) for column in columns.values()} for task, columns in tasks.items()}
        fits = found["key"] == record["key"] and counts == {t: {r["n"]} for t, r in record["evaluation"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is damaged ({type(error).__name__}): move it away, the record stands without"
        ) from None
    if not fits:
        raise ValueError(f"{file} is of other answers than the record's: move it away, the record stands without")
    return tasks

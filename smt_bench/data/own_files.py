"""Files of one's own as plain records: JSON and JSON lines (gzip too), CSV, Parquet, and data sets of the hub."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smt_bench.data.reading import SUFFIXES, text_of, values_of

FILES = (*SUFFIXES, ".csv", ".csv.gz", ".parquet")
HUB = "hub:"  # hub:ORG/NAME:SPLIT, or hub:ORG/NAME:CONFIG:SPLIT
Place = tuple[str, dict[str, Any]]  # where a record stands, in words, and its columns

csv.field_size_limit(1 << 30)  # a document may be in one cell


def is_data(name: str) -> bool:
    """Whether a file can be read here, by its name."""
    return name.endswith(FILES)


def records(source: str, folder: Path) -> Iterator[Place]:
    """The records of a file or of a data set of the hub.

    Args:
        source: path of the file, relative to `folder`; or `HUB` with the name of a data set.
        folder: of the data.

    Raises:
        ValueError: no such file or data set, or it cannot be read; what, where, and the remedy.
    """
    if source.startswith(HUB):
        yield from _hub(source)
        return
    path = folder / source
    if not path.is_file():
        raise ValueError(f"{path}: no such file: name one that ends in {', '.join(FILES)}")
    if not is_data(path.name):
        raise ValueError(f"{path}: no format that is known: save it as one of {', '.join(FILES)}")
    if path.name.endswith(".parquet"):
        found: Iterator[Place] = _parquet(path)
    elif path.name.removesuffix(".gz").endswith(".csv"):
        found = _csv(path)
    else:
        found = _json(path)
    yield from found


def _json(path: Path) -> Iterator[Place]:
    what = "line" if path.name.removesuffix(".gz").endswith(".jsonl") else "record"
    for number, value in values_of(path):
        if not isinstance(value, dict):
            raise ValueError(f"{path}: {what} {number} is {type(value).__name__}, expected an object")
        yield f"{path}: {what} {number}", value


def _csv(path: Path) -> Iterator[Place]:
    """Comma, semicolon or tab: whichever is most frequent in the first line."""
    text = text_of(path)
    first = text.split("\n", 1)[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        for number, row in enumerate(rows, start=1):
            if None in row or None in row.values():
                raise ValueError(f"{path}: row {number} has another number of cells than the first line: mend it")
            yield f"{path}: row {number}", row
    except csv.Error as error:
        raise ValueError(f"{path}: not a readable CSV file (line {rows.line_num}: {error}): mend it") from None


def _parquet(path: Path) -> Iterator[Place]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(f"{path}: Parquet needs the pyarrow package: pip install pyarrow, or save it as CSV") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{path}: not a readable Parquet file ({reason}): fetch it again") from None
    yield from ((f"{path}: row {number}", row) for number, row in enumerate(rows, start=1))


def _hub(source: str) -> Iterator[Place]:
    parts = (
        source.removeprefix(HUB).rsplit(":", 2) if source.count(":") > 2 else source.removeprefix(HUB).rsplit(":", 1)
    )
    if len(parts) < 2 or not all(parts):
        raise ValueError(f"{source}: write {HUB}ORG/NAME:SPLIT, or {HUB}ORG/NAME:CONFIG:SPLIT")
    name, config, split = parts[0], parts[1] if len(parts) == 3 else None, parts[-1]
    try:
        import datasets
    except ImportError:
        raise ValueError(f"{source}: a data set of the hub needs the datasets package: pip install datasets") from None
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # whatever the transport raises, the remedy is the same
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"{source}: cannot be loaded ({reason}): check name and split, or pass a file") from None
    finally:
        if not shown:
            datasets.enable_progress_bars()
    yield from ((f"{source}: row {number}", dict(row)) for number, row in enumerate(rows, start=1))

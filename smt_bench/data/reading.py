"""Reading data files: records in the LLM-Adapters layout, as one JSON array or one JSON object per line, plain or gzip.

What is wrong with a file is found here, before anything is trained, and named with file, record and field.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smt_bench.data.example import Example, Posed

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
FIELDS = ("instruction", "input", "output", "answer")
POSED = ("lead", "source")  # what questions of benchmarks may have besides
_GZIP = b"\x1f\x8b"
_UNFIT = re.compile("[\ud800-\udfff\0]")  # half of a surrogate pair, which no tokenizer takes; the end of a C string


def find_file(folder: Path, stem: str, suffixes: tuple[str, ...] = SUFFIXES) -> Path | None:
    """The data file of a name, in whichever format it is; None without one.

    Raises:
        ValueError: it is there in several formats.
    """
    found = [path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise ValueError(f"{found[0]} stands beside {found[1].name}: keep the one that counts")
    return found[0] if found else None


def read_examples(
    path: Path, optional: tuple[str, ...] = ("input",), blank: tuple[str, ...] = (), posed: bool = False
) -> list[Example]:
    """Reads one file of records.

    Args:
        path: the file; `.jsonl` and `.jsonl.gz` hold one object per line, others one array.
        optional: fields that may be empty, or missing.
        blank: fields that may be empty, but have to be there.
        posed: they are questions of a benchmark, with what `Posed` has besides.

    Raises:
        ValueError: not UTF-8, not JSON, not a list, empty, or a record with a missing or non-text field; the message names
            file, record number (from 1) and field.
    """
    values = [value for _, value in values_of(path)]
    if not values:
        raise ValueError(f"{path}: an empty list, expected a non-empty list of records with {', '.join(FIELDS)}")
    names, optional = (*FIELDS, *(POSED if posed else ())), (*optional, *POSED)
    made = (_texts(path, number, value, names, optional, blank) for number, value in enumerate(values, start=1))
    return [(Posed if posed else Example)(*texts) for texts in made]


def values_of(path: Path, holding: str = ", ".join(FIELDS)) -> Iterator[tuple[int, Any]]:
    """The JSON values of a file and where each stands: in which line of `.jsonl`, else as which element of the array.

    Args:
        path: the file.
        holding: what its records have, for the message.

    Raises:
        ValueError: not UTF-8, not JSON, or no list.
    """
    text = text_of(path)
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        lines = enumerate(text.split("\n"), start=1)
        yield from ((number, _parsed(path, line, number)) for number, line in lines if line.strip())
        return
    values = _parsed(path, text)
    if not isinstance(values, list):
        raise ValueError(f"{path}: {type(values).__name__}, expected a non-empty list of records with {holding}")
    yield from enumerate(values, start=1)


def unfit(text: str) -> str | None:
    """What no tokenizer or no C string takes of a text, and where; None where there is nothing."""
    found = _UNFIT.search(text)
    if found is None:
        return None
    what = "a NUL" if found.group() == "\0" else f"half a character (U+{ord(found.group()):04X})"
    return f"{what} at {found.start() + 1}"


def text_of(path: Path) -> str:
    """The file's text, unpacked, without a byte order mark."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(_GZIP) else raw
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error}): fetch it again") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    encoding = json.detect_encoding(raw)
    if not encoding.startswith("utf-8"):
        raise ValueError(f"{path}: {encoding[:6].upper()} text: save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None


def _parsed(path: Path, text: str, line: int = 1) -> Any:
    """The JSON value of a text that starts in this line of the file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"line {line + error.lineno - 1}: {error.msg}"
        remedy = (
            "name it .jsonl if it holds one record per line"
            if error.msg == "Extra data"
            else "repair or fetch it again"
        )
        raise ValueError(f"{path}: not valid JSON ({at}): {remedy}") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deeply (from line {line}): expected flat records") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise ValueError(f"{path}: not readable (from line {line}: {str(error).split(':')[0]}): repair it") from None


def _texts(
    path: Path, number: int, value: Any, names: tuple[str, ...], optional: tuple[str, ...], blank: tuple[str, ...]
) -> list[str]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: record {number} is {type(value).__name__}, expected an object")
    texts = []
    for name in names:
        text = value.get(name, "" if name in optional else None)
        if isinstance(text, (int, float)) and not isinstance(text, bool) and name == "answer":
            text = str(text)
        if not isinstance(text, str) or (not text.strip() and name not in (*optional, *blank)):
            problem = "is missing" if name not in value else f"is {repr(text)[:60]}"
            raise ValueError(f"{path}: record {number}: field {name!r} {problem}, expected text")
        if what := unfit(text):
            raise ValueError(f"{path}: record {number}: field {name!r} holds {what}: mend the file")
        texts.append(text)
    return texts

"""Reading conversations: records with `messages`, a list of role and content, or in the alpaca form, which becomes one.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}], ...}
    {"instruction": "...", "input": "...", "output": "..."}

As a JSON array, one object per line (`.jsonl`), both plain or gzip, or parquet. Other fields are not looked at. What is wrong
with a file is found here, before anything is trained, and named with file, line or record, what, and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from smt_bench.data.example import ROLES, Chat, Turn, chat_of
from smt_bench.data.reading import SUFFIXES, find_file, unfit, values_of

PARQUET = ".parquet"
FORMS = "`messages`, a list of role and content, or `instruction` and `output`"


def find_messages(folder: Path, stem: str) -> Path | None:
    """The file of conversations of a name, in whichever format it is; None without one.

    Raises:
        ValueError: it is there in several formats.
    """
    return find_file(folder, stem, (*SUFFIXES, PARQUET))


def read_messages(path: Path) -> tuple[list[Chat], int]:
    """The conversations of a file in which the assistant says something, and how many teach nothing, since it does not.

    Raises:
        ValueError: the file cannot be read, a record is no conversation, or in none the assistant says anything.
    """
    found = [_conversation(where, value) for where, value in _records(path)]
    if not found:
        raise ValueError(f"{path}: no records: expected some with {FORMS}")
    kept = [chat for chat in found if chat.output.strip()]
    if not kept:
        raise ValueError(f"{path}: the assistant says nothing in all {len(found):,} records: nothing to train on")
    return kept, len(found) - len(kept)


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Every record of a file, with where it stands."""
    if path.name.endswith(PARQUET):
        yield from _rows(path)
        return
    lines = path.name.removesuffix(".gz").endswith(".jsonl")
    for number, value in values_of(path, FORMS):
        yield f"{path}: {'line' if lines else 'record'} {number}", value


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(
            f"{path}: parquet needs the pyarrow package: pip install pyarrow, or save it as JSON"
        ) from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise ValueError(f"{path}: not a readable parquet file ({reason}): fetch it again") from None
    # A column of another record's form is there as null in all rows.
    named = ({name: value for name, value in row.items() if value is not None} for row in rows)
    yield from ((f"{path}: row {number}", value) for number, value in enumerate(named, start=1))


def _conversation(where: str, value: Any) -> Chat:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: {type(value).__name__}, expected an object with {FORMS}")
    if "messages" in value:
        return chat_of(turns_of(where, value["messages"]))
    if "instruction" in value and "output" in value:
        texts = [_text(where, name, value.get(name, "")) for name in ("instruction", "input", "output")]
        if not texts[0].strip():
            raise ValueError(f"{where}: instruction is empty: fill it in, or remove the record")
        asked = texts[0].strip() + (f"\n\n{texts[1].strip()}" if texts[1].strip() else "")
        return chat_of((Turn("user", asked), Turn("assistant", texts[2])))
    names = ", ".join(sorted(map(str, value))[:5]) or "no field"
    raise ValueError(f"{where}: has {names}, expected {FORMS}: convert it")


def turns_of(where: str, messages: Any) -> tuple[Turn, ...]:
    """The turns of a list of messages.

    Raises:
        ValueError: no list, or a message that is none; `where` begins the message.
    """
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"{where}: messages is {_short(messages)}, expected a list of objects with role and content")
    return tuple(_turn(f"{where}: message {i}", m) for i, m in enumerate(messages, start=1))


def _turn(where: str, message: Any) -> Turn:
    if not isinstance(message, Mapping):
        raise ValueError(f"{where} is {type(message).__name__}, expected an object with role and content")
    for name in ("role", "content"):
        if name not in message:
            raise ValueError(f"{where} has no {name}: every message needs role and content")
    role = message["role"]
    if role not in ROLES:
        raise ValueError(f"{where}: role {_short(role)}: choose from {', '.join(ROLES)}")
    return Turn(role, _text(where, "content", message["content"]))


def _text(where: str, name: str, text: Any) -> str:
    if not isinstance(text, str):
        raise ValueError(f"{where}: {name} is {_short(text)}, expected text")
    if what := unfit(text):
        raise ValueError(f"{where}: {name} holds {what}: mend the file")
    return text


def _short(value: Any) -> str:
    return "an empty list" if value == [] else repr(value)[:60]

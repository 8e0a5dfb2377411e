"""One record of a user's own data, in the instruction layout or as chat `messages`, as an example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smt_bench.data.example import Example, Posed, SourcedChat, Turn, chat_of
from smt_bench.data.messages import turns_of
from smt_bench.data.reading import FIELDS, unfit

DESCRIPTION = "tasks.toml"
MESSAGES = "messages"
COLUMNS = (*FIELDS, "source", MESSAGES)
LEAD = "lead"  # of a code task: the program's beginning


def is_chat(values: Mapping[str, Any], columns: Mapping[str, str]) -> bool:
    """Whether a record is a conversation: a list of messages in a file of lists, or in a column that is named as such.

    A column that is empty is that of another record's form, as Parquet has it.
    """
    value = values.get(columns.get(MESSAGES, MESSAGES))
    named = MESSAGES in columns or ("instruction" not in values and "instruction" not in columns)
    return isinstance(value, list) or (value is not None and named)


def example(where: str, values: Mapping[str, Any], columns: Mapping[str, str], kind: str | None = None) -> Example:
    """A record as an example.

    Args:
        where: file and row, for messages.
        values: its columns.
        columns: those that are called otherwise: the name here -> the name there.
        kind: of the answers that a test set is scored by; None: the response is trained on, or its loss measured.

    Raises:
        ValueError: what is wrong with which column, and the remedy.
    """
    if is_chat(values, columns):
        return _chat(where, values, columns, kind)
    wanted = [*FIELDS, "source", *((LEAD,) if kind == "code" else ())]
    texts = {name: _text(where, values, name, columns) for name in wanted}
    if not texts["instruction"].strip():
        raise ValueError(
            f"{where}: 'instruction' is missing or empty: give it one, or name its column under [fields] of {DESCRIPTION}"
        )
    if not texts["output"].strip() and kind is None and columns.get("output", "output") not in values:
        raise ValueError(
            f"{where}: 'output' is missing: give it one, or name its column under [fields] of {DESCRIPTION}"
        )
    if kind not in (None, "code") and not texts["answer"].strip():
        texts["answer"] = texts["output"]
    if texts["source"] or texts.get(LEAD):
        return Posed(**texts)
    return Example(**{name: texts[name] for name in FIELDS})


def _chat(where: str, values: Mapping[str, Any], columns: Mapping[str, str], kind: str | None) -> Example:
    """A conversation; of a scored test set the question, whose answer is the assistant's one turn at the end, or `answer`."""
    turns = turns_of(where, values[columns.get(MESSAGES, MESSAGES)])
    source, answer = (_text(where, values, name, columns) for name in ("source", "answer"))
    if kind is not None:
        said = [number for number, turn in enumerate(turns, start=1) if turn.role == "assistant"]
        if said and said != [len(turns)]:
            raise ValueError(
                f"{where}: message {said[0]} is the assistant's and not the last: a question that is scored has one response"
            )
        turns = turns if said else (*turns, Turn("assistant", answer))
        if len(turns) == 1:
            raise ValueError(f"{where}: no message before the response: there is no question")
        answer = answer if answer.strip() or kind == "code" else turns[-1].content
    made = chat_of(turns)
    if not source and not answer:
        return made
    return SourcedChat(made.instruction, "", made.output, answer, made.turns, source)


def _text(where: str, values: Mapping[str, Any], name: str, columns: Mapping[str, str]) -> str:
    column = columns.get(name, name)
    if column not in values and name in columns:
        raise ValueError(f"{where}: no column {column!r} (for {name}): there are {', '.join(map(str, values))[:80]}")
    value = values.get(column)
    text = "" if value is None else str(value) if isinstance(value, int | float) else value
    if not isinstance(text, str) or isinstance(value, bool):
        raise ValueError(f"{where}: {column!r} is {type(value).__name__}, expected text")
    if what := unfit(text):
        raise ValueError(f"{where}: {column!r} holds {what}: mend the file")
    return text

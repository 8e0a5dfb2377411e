"""`show KEY --examples`: the test questions of one run, with what was right, what was read, and what the model wrote."""

from __future__ import annotations

from typing import Any

from smt_bench.cli.options import say
from smt_bench.records.store import Record, Store

WHICH = ("wrong", "unread", "all")


def rows_of(record: Record, which: str, store: Store, data: str | None) -> list[dict[str, Any]]:
    """One dict per test question: `task`, `item`, `gold`, `prediction`, `correct`, `text`; `question` where its data are here.

    Args:
        record: of a training run.
        which: of `WHICH`: those answered wrongly, those whose answer could not be read, or all.
        store: that it is from.
        data: `--data` of the run, where the questions are wanted.

    Raises:
        ValueError: another choice, or a record that has none.
    """
    if which not in WHICH:
        raise ValueError(f"--examples {which}: choose from {', '.join(WHICH)}")
    if not record.get("evaluation"):
        raise ValueError(
            f"record {record['key']} ({record['status']}) has no test examples: choose one with accuracies, or describe a test "
            "set of your data in tasks.toml (docs/own.md)"
        )
    from smt_bench.records import texts

    kept, asked = texts.read(store.runs, record), _questions(record, data)
    rows = []
    for task, result in record["evaluation"].items():
        columns, extra = result["examples"], kept.get(task, {})
        for i in range(result["n"]):
            if (which == "wrong" and columns["correct"][i]) or (which == "unread" and columns["parsed"][i]):
                continue
            row = {"task": task, "item": extra.get("item", [None] * result["n"])[i]}
            row |= {name: columns[name][i] for name in ("gold", "prediction", "correct")}
            row["text"] = extra["text"][i] if "text" in extra else None
            if task in asked:
                row["question"] = asked[task][i]
            rows.append(row)
    return rows


def _questions(record: Record, data: str | None) -> dict[str, list[str]]:
    """By task the prompts of its test questions; nothing where the data are not here."""
    from smt_bench.data.prompts import question
    from smt_bench.questions.again import data_of
    from smt_bench.records.runs import Run

    run = Run.from_dict(record["run"])
    try:
        found = data_of(run, record, data, fetch=False)
    except ValueError as error:
        if data is not None:
            raise
        say(f"note: without the questions ({error}): --data FOLDER shows them")
        return {}
    return {task: [question(e, run.data.template) for e in examples] for task, examples in found.tests.items()}


def text_of(rows: list[dict[str, Any]]) -> str:
    """For people; what all prompts of a task begin and end with stands once, before its first question."""
    parts, frames = [], _frames(rows)
    said: set[str] = set()
    for row in rows:
        item = "" if row["item"] is None else f" item {row['item']}"
        read = "could not be read" if row["prediction"] is None else f"read as {row['prediction']}"
        head = f"{row['task']}{item}: {read}, right is {row['gold']}"
        before, after = frames.get(row["task"], (0, 0))
        asked = _lines(row)
        lines = [head, *(f"  ? {line}" for line in asked[before : len(asked) - after])]
        if row["text"] is not None:
            lines += [f"  > {line}" for line in row["text"].splitlines()] or ["  > (nothing)"]
        if before + after and row["task"] not in said:
            said.add(row["task"])
            frame = [*asked[:before], "(the question)", *asked[len(asked) - after :]]
            parts.append("\n".join([f"{row['task']}: every prompt reads", *(f"  | {line}" for line in frame)]))
        parts.append("\n".join(lines))
    return "\n".join([*parts, f"{len(rows)} examples"])


def _lines(row: dict[str, Any]) -> list[str]:
    return [line for line in row.get("question", "").splitlines() if line.strip()]


def _frames(rows: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """By task, how many lines all its prompts begin and end with alike; of tasks with different ones."""
    asked: dict[str, list[list[str]]] = {}
    for row in rows:
        asked.setdefault(row["task"], []).append(_lines(row))
    found = {}
    for task, prompts in asked.items():
        if len({"\n".join(prompt) for prompt in prompts}) > 1:
            before = _alike(prompts)
            found[task] = before, _alike([prompt[before:][::-1] for prompt in prompts])
    return found


def _alike(prompts: list[list[str]]) -> int:
    """Leading lines that are the same in all prompts."""
    count = 0
    for lines in zip(*prompts):
        if len(set(lines)) > 1:
            break
        count += 1
    return count

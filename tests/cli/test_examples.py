"""`show KEY --examples`: what a model wrote is kept beside the record, and shown; the record itself holds what it always did."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli

from smt_bench.cli.examples import text_of
from smt_bench.records import texts
from smt_bench.records.survey import survey

RUN = ("run", "plateau", "--preset", "smoke", "--methods", "base", "--protocol", "llm-adapters", "--limit", "6")


def test_generated_text_is_kept_and_shown(cli: Cli) -> None:
    assert cli(*RUN).returncode == 0
    record = json.loads(next(Path("results/runs").glob("*.json")).read_bytes())
    key, tasks = record["key"], record["evaluation"]
    assert all("text" not in result["examples"] for result in tasks.values())
    assert survey(Path("results/runs")).told() == []
    kept = texts.read(Path("results/runs"), record)
    assert {task: len(columns["text"]) for task, columns in kept.items()} == dict.fromkeys(tasks, 6)
    assert all(len(set(columns["item"])) == 6 and max(columns["item"]) > 5 for columns in kept.values())

    shown = {
        which: json.loads(cli("show", key, "--examples", which, "--json").stdout)
        for which in ("all", "wrong", "unread")
    }
    assert len(shown["all"]) == 6 * len(tasks)
    assert shown["wrong"] == [row for row in shown["all"] if not row["correct"]]
    assert shown["unread"] == [row for row in shown["all"] if row["prediction"] is None]
    row = shown["all"][0]
    assert row["prediction"] is None or str(row["prediction"]) in row["text"]  # it was read from there
    assert "### Instruction:" in row["question"]
    plain = cli("show", key, "--examples", "wrong").stdout
    assert plain.endswith(f"{len(shown['wrong'])} examples\n") and "  > " in plain


def test_a_record_without_its_texts_is_as_good(cli: Cli) -> None:
    assert cli(*RUN, "--tasks", "facts-2").returncode == 0
    record = next(Path("results/runs").glob("*.json"))
    key, file = record.stem, texts.path(record.parent, record.stem)
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    damaged = cli("show", key, "--examples", "all")
    assert damaged.returncode == 2 and "is damaged" in damaged.stderr
    other = json.loads(gzip.decompress(whole))
    other["tasks"]["facts-2"]["text"].pop()
    file.write_bytes(gzip.compress(json.dumps(other).encode()))
    assert "of other answers than the record's" in cli("show", key, "--examples", "all").stderr
    file.unlink()
    rows = json.loads(cli("show", key, "--examples", "all", "--json").stdout)
    assert len(rows) == 6 and {row["text"] for row in rows} == {None}


@pytest.mark.parametrize(
    ("options", "said"), [(("--examples", "right"), "choose from wrong"), (("--data", "x"), "goes with")]
)
def test_other_choices_are_refused(cli: Cli, options: tuple[str, ...], said: str) -> None:
    assert cli(*RUN, "--tasks", "facts-2").returncode == 0
    done = cli("show", next(Path("results/runs").glob("*.json")).stem, *options)
    assert done.returncode == 2 and said in done.stderr


def test_what_all_prompts_share_stands_once() -> None:
    def row(task: str, item: str, asked: str) -> dict[str, Any]:
        prompt = f"Below is an instruction.\n\n### Instruction:\n{asked}\nAnswer:\n\n### Response:\n"
        given = {"gold": "a", "prediction": "b", "correct": False}
        return {"task": task, "item": item, **given, "text": "b", "question": prompt}

    rows = [row("facts", "1", "Who?\nA or B?"), row("facts", "2", "Where?"), row("one", "3", "Alone?")]
    shown = text_of(rows).splitlines()
    assert shown[:6] == [
        "facts: every prompt reads", "  | Below is an instruction.", "  | ### Instruction:", "  | (the question)",
        "  | Answer:", "  | ### Response:",
    ]  # fmt: skip
    assert shown[6:12] == [
        "facts item 1: read as b, right is a", "  ? Who?", "  ? A or B?", "  > b", "facts item 2: read as b, right is a",
        "  ? Where?",
    ]  # fmt: skip
    assert shown.count("  ? Below is an instruction.") == 1  # of the task that has one question
    same = text_of([row("facts", "1", "Who?"), row("facts", "2", "Who?")]).splitlines()
    assert same.count("  ? Who?") == 2 and "every prompt reads" not in same[0]  # what all is frame is no frame

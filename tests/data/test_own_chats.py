"""Conversations and programs of one's own: trained on and judged by their template, or refused with their place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smt_bench.data import chat, families, own
from smt_bench.data.example import Chat, Example, Posed
from smt_bench.data.loading import load
from smt_bench.data.prompts import question
from smt_bench.data.sources import sources
from smt_bench.data.tasks import gold, score
from smt_bench.evaluation.lm_eval_adapter import judged
from smt_bench.questions.request import Request

pytestmark = pytest.mark.usefixtures("own_data")

CHATS = [
    {"messages": [{"role": "user", "content": f"Is thing {i} fine?"}, {"role": "assistant", "content": "Yes."}]}
    for i in range(6)
]


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_chats_are_trained_on_with_their_template(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be short."}
    more = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "No."}]
    rows = [
        *CHATS,
        {"messages": [system, *CHATS[0]["messages"], *more]},
        {"instruction": "Is it?", "output": "It is."},
        {"messages": CHATS[0]["messages"][:1]},  # nothing is said
    ]
    lines(tmp_path / "talk.jsonl", rows)
    family = own.known_as(str(tmp_path / "talk.jsonl"))
    assert family.template == "tulu"
    data = load(str(tmp_path / "talk.jsonl"), family.name, (), 0, None)
    assert len(data.train) == 8 and data.empty == 1
    long = next(e for e in data.train if isinstance(e, Chat) and len(e.turns) == 5)
    assert chat.pieces(long)[1] == ("\n<|user|>\nSure?\n<|assistant|>\n", "No.")
    assert Example("Is it?", "", "It is.", "") in data.train


def test_chats_are_judged_like_questions_of_the_same_words(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be short."}
    lines(tmp_path / "train.jsonl", CHATS)
    asked = [
        {"messages": [system, *CHATS[0]["messages"]], "maker": "m"},  # answered by the response
        {"messages": CHATS[0]["messages"][:1], "answer": "No.\nNot at all.", "maker": "m"},
    ]
    lines(tmp_path / "fine.jsonl", asked)
    lines(tmp_path / "fine-loss.jsonl", [CHATS[1]])
    (tmp_path / "tasks.toml").write_text(
        '[tests.fine]\nkind = "exact"\nfields = { source = "maker" }\n[tests.fine-loss]\nkind = "loss"\n'
    )
    family = own.known_as(str(tmp_path))
    data = load(str(tmp_path), family.name, (), 0, None)
    first, second = data.tests["fine"]
    assert (first.answer, second.answer) == ("Yes.", "No.\nNot at all.")
    assert question(first, "tulu") == "<|system|>\nBe short.\n<|user|>\nIs thing 0 fine?\n<|assistant|>\n"
    assert question(second, "tulu") == question(Example("Is thing 0 fine?", "", "", ""), "tulu")
    assert sources(family, data.tests["fine"]) == [0, 0]
    assert isinstance(data.losses["fine-loss"][0], Chat)
    task = family.tasks[0]
    assert [score(task, "not at all", str(gold(task, e))) for e in (first, second)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "line 1: messages is an empty list"),
        ("hello", "line 1: messages is 'hello', expected a list"),
        ([{"role": "human", "content": "x"}], "line 1: message 1: role 'human': choose from system, user, assistant"),
        ([{"role": "user", "content": 3}], "line 1: message 1: content is 3, expected text"),
        ([{"role": "user"}], "line 1: message 1 has no content"),
        ([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "message 1 is the assistant's"),
        ([{"role": "assistant", "content": "a"}], "no message before the response"),
        ([{"role": "user", "content": "a"}], "gold answer '' holds no word"),
    ],
)
def test_faults_of_chats_are_named(tmp_path: Path, messages: Any, said: str) -> None:
    lines(tmp_path / "fine.jsonl", [{"messages": messages}])
    (tmp_path / "tasks.toml").write_text('[tests.fine]\nkind = "f1"\n')
    with pytest.raises(ValueError) as error:
        load(str(tmp_path), own.known_as(str(tmp_path)).name, (), 0, None)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_programs_are_judged_only_where_that_is_allowed(tmp_path: Path) -> None:
    lines(
        tmp_path / "double.jsonl", [{"instruction": "Double x.", "lead": "def f(x):\n", "answer": "assert f(2) == 4"}]
    )
    (tmp_path / "tasks.toml").write_text('[tests.double]\nkind = "code"\n')
    with pytest.raises(ValueError, match="judging double runs programs that the model writes.*--allow-code"):
        Request("plateau", "tiny", str(tmp_path))
    request = Request("plateau", "tiny", str(tmp_path), allow_code=True)
    [example] = load(str(tmp_path), request.default_family, (), 0, None).tests["double"]
    assert example == Posed("Double x.", "", "", "assert f(2) == 4", lead="def f(x):\n")
    task = families.all_tasks()["double"]
    assert judged(task, example, gold(task, example), "    return 2 * x") == ("passes", 1.0)
    assert judged(task, example, gold(task, example), "    return x")[1] == 0.0

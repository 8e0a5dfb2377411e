"""Files of conversations: every format gives the same records, and what is wrong is one line with its place and remedy."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet

from smt_bench.data.example import Turn
from smt_bench.data.loading import load
from smt_bench.data.messages import find_messages, read_messages

CHAT = {"id": 7, "messages": [{"role": "user", "content": "q é"}, {"role": "assistant", "content": "a"}]}
SILENT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "  "}]}
ALPACA = {"instruction": "add", "input": "1, 2", "output": "3"}
RECORDS = [CHAT, ALPACA, SILENT]


def written(folder: Path, name: str, records: list[Any]) -> Path:
    path = folder / name
    lines = "\n\n".join(json.dumps(r, ensure_ascii=False) for r in records)
    text = lines if ".jsonl" in name else json.dumps(records)
    if name.endswith(".parquet"):
        names = dict.fromkeys(name for record in records for name in record)  # every row has every column
        parquet.write_table(Table.from_pylist([{n: r.get(n) for n in names} for r in records]), path)
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet"])
def test_every_format_gives_the_same_conversations(ending: str, tmp_path: Path) -> None:
    found, empty = read_messages(written(tmp_path, f"m{ending}", RECORDS))
    assert [chat.turns for chat in found] == [
        (Turn("user", "q é"), Turn("assistant", "a")),
        (Turn("user", "add\n\n1, 2"), Turn("assistant", "3")),
    ]
    assert empty == 1
    assert find_messages(tmp_path, "m") == tmp_path / f"m{ending}"


def message(role: Any = "user", content: Any = "x") -> dict[str, Any]:
    return {"messages": [CHAT["messages"][0], {"role": role, "content": content}]}


BAD: dict[str, tuple[Any, str]] = {
    "no object": (
        [1],
        r"line 5: list, expected an object with `messages`, a list of role and content, or `instruction`",
    ),
    "other fields": ({"text": "x"}, r"line 5: has text, expected `messages`.*: convert it"),
    "no list": ({"messages": "hi"}, r"line 5: messages is 'hi', expected a list of objects with role and content"),
    "empty": ({"messages": []}, r"line 5: messages is an empty list"),
    "no message": ({"messages": ["x"]}, r"line 5: message 1 is str, expected an object with role and content"),
    "no role": ({"messages": [{"content": "x"}]}, r"line 5: message 1 has no role: every message needs"),
    "no content": ({"messages": [{"role": "user"}]}, r"line 5: message 1 has no content"),
    "role": (message(role="human"), r"line 5: message 2: role 'human': choose from system, user, assistant"),
    "content": (message(content=None), r"line 5: message 2: content is None, expected text"),
    "NUL": (message(content="a\0"), r"line 5: message 2: content holds a NUL at 2: mend the file"),
    "no instruction": ({"instruction": " ", "output": "x"}, r"line 5: instruction is empty: fill it in, or remove"),
    "input": ({**ALPACA, "input": 3}, r"line 5: input is 3, expected text"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_named_with_its_line_and_remedy(case: str, tmp_path: Path) -> None:
    record, why = BAD[case]
    path = written(tmp_path, "m.jsonl", [CHAT, ALPACA, record])  # a blank line between two
    with pytest.raises(ValueError, match=why) as error:
        read_messages(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    cases = {
        "a.json": (b"{", "not valid JSON"),
        "b.json": (b'{"messages": []}', "dict, expected a non-empty list of records with `messages`"),
        "c.parquet": (b"no", "not a readable parquet file"),
        "d.jsonl": (b"", "no records"),
        "e.jsonl": (json.dumps(SILENT).encode(), "the assistant says nothing in all 1 records: nothing to train on"),
    }
    for name, (content, why) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=why) as error:
            read_messages(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)


def folder(root: Path, records: int = 6) -> Path:
    """A data folder with one mixture and one benchmark."""
    (root / "ft-training_set").mkdir(parents=True)
    (root / "dataset" / "tydiqa").mkdir(parents=True)
    made = [{"messages": [{"role": "user", "content": f"q{i}"}, CHAT["messages"][1]]} for i in range(records)]
    written(root / "ft-training_set", "flan_v2.jsonl.gz", made)
    asked = [{"instruction": f"P{i // 2}. Q{i}?", "answer": "the Nile\nNile", "source": f"P{i // 2}"} for i in range(4)]
    (root / "dataset" / "tydiqa" / "test.json").write_text(json.dumps(asked))
    return root


def test_a_local_folder_gives_a_mixture_and_what_it_is_judged_by(tmp_path: Path) -> None:
    data = load(str(folder(tmp_path)), "instructions", ["tydiqa"], 2, None, mixture="flan_v2")
    assert data.train_source == "flan_v2" and len(data.train) == 4 and len(data.heldout) == 2
    (questions,) = data.tests.values()
    from smt_bench.data import families
    from smt_bench.data.sources import sources

    assert sources(families.find("instructions"), questions) == [0, 0, 1, 1]
    with pytest.raises(
        ValueError, match="has no conversations of GPT4-Alpaca: expected ft-training_set/gpt4_alpaca as"
    ):
        (tmp_path / "dataset" / "humaneval").mkdir()
        (tmp_path / "dataset" / "humaneval" / "test.json").write_text('[{"instruction": "f", "answer": "assert 1"}]')
        load(str(tmp_path), "instructions", ["humaneval"], 2, None, mixture="gpt4_alpaca")

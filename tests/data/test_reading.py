"""Data files in every format that is read, and every fault that is named before anything is trained."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smt_bench.audit import collection
from smt_bench.data import loading
from smt_bench.data.prompts import Example
from smt_bench.data.reading import SUFFIXES, find_file, read_examples

FORM = "\n\nAnswer format: true/false"
RECORDS = [
    {"instruction": f"Is it {i}?{FORM}", "input": "", "output": "the correct answer is true — ja", "answer": "true"}
    for i in range(30)
]
EXAMPLES = [Example(**record) for record in RECORDS]


def packed(suffix: str, values: list[Any]) -> bytes:
    lines = "\n".join(json.dumps(v, ensure_ascii=False) for v in values) + "\n\n"
    text = lines if "jsonl" in suffix else json.dumps(values, ensure_ascii=False)
    return gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode()


def refusal(path: Path, content: bytes | str) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as error:
        read_examples(path)
    text = str(error.value)
    assert text.startswith(str(path)) and "\n" not in text
    return text.removeprefix(str(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mark", [False, True])
def test_every_format_gives_the_same_records(tmp_path: Path, suffix: str, mark: bool) -> None:
    path = tmp_path / f"test{suffix}"
    content = packed(suffix, RECORDS)
    if mark:
        plain = b"\xef\xbb\xbf" + packed(suffix.removesuffix(".gz"), RECORDS)
        content = gzip.compress(plain) if suffix.endswith(".gz") else plain
    path.write_bytes(content)
    assert read_examples(path) == EXAMPLES


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_are_found_wherever_json_is_looked_for(tmp_path: Path, suffix: str) -> None:
    def put(place: str, values: list[Any]) -> None:
        path = tmp_path / f"{place}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed(suffix, values))

    put("dataset/boolq/train", RECORDS[:20])
    put("dataset/boolq/test", RECORDS[20:])
    assert loading.load(str(tmp_path), "commonsense", (), 5, None).train_source == "boolq"
    put("ft-training_set/commonsense_170k", RECORDS[:25])
    found = loading.load(str(tmp_path), "commonsense", (), 5, None)
    assert (found.train_source, len(found.train), len(found.tests["boolq"])) == ("commonsense_170k.json", 20, 10)
    files = {report.file for report in collection.report(tmp_path).files}
    assert files == {
        f"dataset/boolq/test{suffix}",
        f"dataset/boolq/train{suffix}",
        f"ft-training_set/commonsense_170k{suffix}",
    }


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    assert find_file(tmp_path, "test") is None
    (tmp_path / "test.jsonl").write_text("")
    assert find_file(tmp_path, "test") == tmp_path / "test.jsonl"
    (tmp_path / "test.json").write_text("")
    with pytest.raises(ValueError, match=r"test\.json stands beside test\.jsonl: keep the one that counts"):
        find_file(tmp_path, "test")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_utf_16_is_named(tmp_path: Path, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    said = refusal(tmp_path / "test.json", pack(json.dumps(RECORDS).encode(encoding)))
    assert said == f": {encoding[:6].upper()} text: save it as UTF-8"


def test_other_encodings_and_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    assert "not UTF-8 text (byte 18)" in refusal(path, '[{"instruction": "ä'.encode("latin-1"))
    whole = packed(".json.gz", RECORDS)
    for damaged in (whole[:-20], whole[:20], whole[:40] + b"\0\0\0\0" + whole[44:]):
        assert "damaged gzip file" in refusal(path, damaged)


def test_a_fault_in_a_line_is_named_by_its_line_and_record(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    lines = packed(".jsonl", RECORDS[:3]).decode()
    assert "not valid JSON (line 6: " in refusal(path, lines + '\n{"instruction": \n')
    assert ": record 4: field 'answer' is missing" in refusal(path, lines + '{"instruction": "x", "output": "y"}')
    assert "name it .jsonl if it holds one record per line" in refusal(tmp_path / "test.json", lines)
    assert "an empty list" in refusal(path, "\n\n")
    assert "record 1 is list" in refusal(path, "[]")


@pytest.mark.parametrize("field", ["instruction", "input", "output", "answer"])
@pytest.mark.parametrize(("text", "what"), [("a\ud83d", r"half a character (U+D83D) at 2"), ("ab\0c", "a NUL at 3")])
@pytest.mark.parametrize("kind", ["train", "test"])
def test_text_that_no_tokenizer_takes_is_refused_with_its_place(
    tmp_path: Path, field: str, text: str, what: str, kind: str
) -> None:
    place = tmp_path / "dataset" / "boolq"
    place.mkdir(parents=True)
    bad = [*RECORDS[:7], {**RECORDS[7], field: text}, *RECORDS[8:]]
    for name in ("train", "test"):
        (place / f"{name}.json").write_text(json.dumps(bad if name == kind else RECORDS))
    with pytest.raises(ValueError) as error:
        loading.load(str(tmp_path), "commonsense", (), 5, None)
    assert str(error.value) == f"{place / kind}.json: record 8: field {field!r} holds {what}: mend the file"


def test_whole_characters_beyond_the_first_plane_are_text(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    path.write_text(json.dumps([{**RECORDS[0], "input": "\U0001f600"}]))  # written as a surrogate pair
    assert read_examples(path)[0].input == "\U0001f600"


def test_what_json_allows_and_records_do_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    assert "nested too deeply" in refusal(path, "[" * 100_000)
    assert "not readable (from line 1: Exceeds the limit" in refusal(path, f'[{{"answer": {"9" * 5000}}}]')
    assert "field 'input' is None" in refusal(path, json.dumps([{**RECORDS[0], "input": None}]))
    assert "field 'answer' is True" in refusal(path, json.dumps([{**RECORDS[0], "answer": True}]))
    assert "field 'answer' is ['true']" in refusal(path, json.dumps([{**RECORDS[0], "answer": ["true"]}]))

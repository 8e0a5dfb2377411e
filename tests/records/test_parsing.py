"""Two parsers, one answer: what `orjson` reads is what `json` reads, and what either refuses is refused in the same words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smt_bench.records import trust
from smt_bench.records.shapes import Each, Maybe, Named, Unknown, mismatch
from smt_bench.records.trust import Damaged

_NUMBERS = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**18, 10**19]),
    st.floats(),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
# What a hand, a disk or another program could put into a file.
SNIPPETS = (
    b"1e999", b"-1e999", b"1e-999", b"NaN", b"-Infinity", b"18446744073709551616", b"1" * 400, b"1" * 5000, b"-0", b"-0.0",
    b"01", b"1.", b".5", b"+1", b"0x1", b"1E5", b"0.00000123456789012345678901", b"12345678901234567890.5",
    b"1e0000000000000000000005",
    rb'"\ud800"', rb'"\ud83d\ude00"', rb'"\udc00x"', rb'"\u0000"', b'"\x01"', b'"\xff"', b'"\xed\xa0\x80"', rb'"\x"', b"'a'",
    b'{"a": 1, "a": 2}', b"{1: 2}", b"[1,]", b"[", b"]", b"{", b"}", b",", b":", b" ", b"\t", b"\r\n", b"\xc2\xa0", b"//",
    b"\x00", b"\xef\xbb\xbf",
)  # fmt: skip


def outcome(parse: Any, content: bytes) -> str:
    """The value, to the type and the sign of its zeros, or the refusal."""
    try:
        return repr(parse(content))
    except Damaged as error:
        return f"refused: {error}"


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_what_python_writes_is_read_alike(value: Any, ascii_only: bool, indent: int | None) -> None:
    content = json.dumps({"a": value}, ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    assert outcome(trust._parsed, content) == outcome(trust._slowly, content)


@given(VALUES, st.lists(st.tuples(st.floats(0, 1), st.sampled_from(SNIPPETS), st.booleans()), min_size=1, max_size=3))
@example([0], [(0.99, b"}", False)])
def test_what_was_done_to_a_file_is_refused_alike(value: Any, edits: list[tuple[float, bytes, bool]]) -> None:
    content = json.dumps({"a": [value]}).encode(errors="surrogatepass")
    for place, snippet, instead in edits:
        at = int(place * len(content))
        content = content[:at] + snippet + content[at + instead :]
    assert outcome(trust._parsed, content) == outcome(trust._slowly, content)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_every_oddity_alone(snippet: bytes) -> None:
    for content in (b'{"a":' + snippet + b"}", b'{"a": [' + snippet + b"]}", b'{"a": [1,' + snippet + b"]}"):
        assert outcome(trust._parsed, content) == outcome(trust._slowly, content), content


@pytest.mark.parametrize("depth", [trust._BRACKETS - 1, trust._BRACKETS + 1, 1010, 1024, 100_000])
def test_depth_is_judged_by_one_of_the_two(depth: int) -> None:
    content = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    said = []
    for parse in (trust._parsed, trust._slowly):
        try:
            value, found = parse(content)["a"], 1
            while value:
                value, found = value[0], found + 1
            said.append(str(found))
        except Damaged as error:
            said.append(str(error))
    assert said[0] == said[1] and said[0] in (str(depth), "it is nested too deeply")


def test_a_mismatch_says_where_from_the_outside_in() -> None:
    shape = {"a": Named({"b": Maybe(Each(int))}), "c": dict}
    good: dict[str, Any] = {"a": {"x": {"b": [1]}, "y": {}}, "c": {}}
    assert mismatch(good, shape) is None
    for bad, words in (
        ({**good, "a": {"x": {"b": [1, "2"]}}}, "a.x.b holds text"),
        ({**good, "a": {"x": []}}, "a.x is no object"),
        ({**good, "a": 3}, "a is no object"),
        ({**good, "c": {"d": [float("nan")]}}, "c holds a number that is none"),
        ({"a": {}}, "c is missing"),
        ([], "it is no object"),
    ):
        assert mismatch(bad, shape) == words
        assert mismatch(bad, shape, "run") == f"run.{words}".replace("run.it", "run")
    with pytest.raises(Unknown, match="^run.a.x.z$"):
        mismatch({**good, "a": {"x": {"z": 1}}}, shape, "run")

"""What tables say about the data behind them: repeated questions, and what did not fit."""

from __future__ import annotations

from made_up import record

from smt_bench.records.store import Record
from smt_bench.report.accuracy.by_fraction import table3


def notes(records: list[Record], start: str) -> list[str]:
    return [note for note in table3(records, "m").notes if note.startswith(start)]


def test_repeated_questions_are_counted_once_in_the_notes() -> None:
    made = [record("smt", 1.0, seed) for seed in (0, 1)]
    assert notes(made, "Repeated") == []  # of older records nothing is known
    for count, said in ((0, []), (1042, ["Repeated questions: 1,042 training or held-out examples"])):
        told = [r | {"overlap": {"rule": "normalised-1", "tests": {}, "repeated": count}} for r in made]
        found = notes(told, "Repeated")
        assert len(found) == len(said) and all(note.startswith(text) for note, text in zip(found, said))

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


def with_cut(made: Record, training: dict[str, int] | None, heldout: dict[str, int], **prompts: int) -> Record:
    return made | {"cut": {"training": training, "heldout": heldout, "prompts": {"boolq": 0, "piqa": 0, **prompts}}}


def counts(examples: int, empty: int = 0, shortened: int = 0) -> dict[str, int]:
    return {"examples": examples, "empty": empty, "shortened": shortened}


def test_what_was_cut_off_is_counted_in_the_notes() -> None:
    made = [record("smt", 1.0, seed) for seed in (0, 1)]
    assert notes(made, "Cut off") == notes(made, "Test prompts") == []
    clean = [with_cut(r, counts(1500), counts(100)) for r in made]
    assert notes(clean, "Cut off") == notes(clean, "Test prompts") == []
    base = with_cut(record("base", None), None, counts(100, 2, 1))
    told = [base, *(with_cut(r, counts(1500, 30 + i, 13), counts(100, 2, 1), piqa=1204) for i, r in enumerate(made))]
    assert notes(told, "Cut off") == [
        "Cut off at 128 tokens: of the 1,500 training examples that a run draws, 30 to 31 keep nothing of their response and 13 "
        "lose its end; of the 100 held-out examples, 2 keep nothing of their response and 1 lose its end."
    ]
    assert notes(told, "Test prompts") == [
        "Test prompts longer than the model's positions, cut from the left: PIQA 1,204."
    ]

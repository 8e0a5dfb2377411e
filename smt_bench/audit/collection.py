"""`audit data`: a folder in the LLM-Adapters layout, each training file against each test set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smt_bench.audit.labels import contradictory, majority, unreadable
from smt_bench.audit.page import Page
from smt_bench.data.family import Task
from smt_bench.data.overlap import exact_question, normalised_question, repeated, shared
from smt_bench.data.prompts import Example
from smt_bench.data.reading import SUFFIXES, find_file, read_examples
from smt_bench.data.tasks import TASKS
from smt_bench.evidence.words import task_title
from smt_bench.report.table import Cell, Table

_OPTIONAL = ("input", "output")  # published files have records without a response
_SHOWN = 5  # record numbers or questions named in the report


@dataclass(frozen=True)
class FileReport:
    """One file by itself.

    Attributes:
        file: path below the data folder.
        kind: "train" or "test".
        task: its task; None for a mixture.
        records: how many.
        repeated_exactly: records whose question stands in an earlier record, character by character.
        repeated: the same after normalisation.
        majority: the most frequent gold answer.
        majority_pct: its share in %.
        unreadable: records whose gold answer cannot be read.
        unreadable_records: the first of them, numbered from 1.
        contradictory: questions with different gold answers.
        contradictory_questions: the first of them, normalised.
        empty: records without a response; of test sets it is not used, training leaves them out.
    """

    file: str
    kind: str
    task: str | None
    records: int
    repeated_exactly: int
    repeated: int
    majority: str | None
    majority_pct: float | None
    unreadable: int
    unreadable_records: list[int]
    contradictory: int
    contradictory_questions: list[str]
    empty: int


@dataclass(frozen=True)
class Overlap:
    """Test questions that stand in a training file: of `records`, `exact` character by character, `normalised` in words."""

    train: str
    test: str
    task: str
    records: int
    exact: int
    normalised: int


@dataclass(frozen=True)
class Report:
    """All files and all pairs of a training file and a test set."""

    folder: str
    files: list[FileReport]
    overlaps: list[Overlap]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def file_report(file: str, kind: str, task: Task | None, examples: Sequence[Example]) -> FileReport:
    """What can be said of one file."""
    bad, both, top = unreadable(examples, task), contradictory(examples, task), majority(examples, task)
    return FileReport(
        file,
        kind,
        task.name if task else None,
        len(examples),
        repeated(examples, exact_question),
        repeated(examples, normalised_question),
        top[0] if top else None,
        round(top[1], 2) if top else None,
        len(bad),
        bad[:_SHOWN],
        len(both),
        both[:_SHOWN],
        sum(not example.output.strip() for example in examples),
    )


def report(root: Path) -> Report:
    """Reads the folder and compares every training file with every test set.

    Raises:
        ValueError: no such folder, not the layout, or a file that is no list of records.
    """
    if not root.is_dir():
        raise ValueError(f"data folder {root} does not exist: pass a folder in the LLM-Adapters layout with --data")
    mixtures = sorted(p for place in (root / "ft-training_set", root) for s in SUFFIXES for p in place.glob(f"*{s}"))
    own = [(task, path) for task in TASKS.values() if (path := find_file(root / "dataset" / task.name, "train"))]
    held = [(task, path) for task in TASKS.values() if (path := find_file(root / "dataset" / task.name, "test"))]
    if not held:
        raise ValueError(
            f"data folder {root} has no dataset/<task>/test.json of a known task: expected the LLM-Adapters layout"
        )
    tests = {task.name: read_examples(path, _OPTIONAL) for task, path in held}
    files = [file_report(_below(root, path), "test", task, tests[task.name]) for task, path in held]
    overlaps = []
    trains: list[tuple[Task | None, Path]] = [*((None, path) for path in mixtures), *own]
    for task, path in trains:
        examples = read_examples(path, _OPTIONAL)
        files.append(file_report(_below(root, path), "train", task, examples))
        exact, normalised = (shared(examples, tests, same) for same in (exact_question, normalised_question))
        overlaps += [
            Overlap(_below(root, path), _below(root, p), t.name, len(tests[t.name]), exact[t.name], normalised[t.name])
            for t, p in held
        ]
    return Report(str(root), files, overlaps)


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def summary(found: Report) -> str:
    """How many pairs of training file and test set overlap."""
    hit = [o for o in found.overlaps if o.normalised]
    bad = sum(f.unreadable + f.contradictory for f in found.files)
    text = f"{len(hit)} of {len(found.overlaps)} pairs of a training file and a test set share questions"
    if hit:
        worst = max(hit, key=lambda o: o.normalised / o.records)
        text += f" (most: {worst.train} holds {worst.normalised:,} of {worst.records:,} of {task_title(worst.task)})"
    return f"{text}; {bad} gold answers are unreadable or contradictory."


def page(found: Report) -> Page:
    """Overlaps first, then the files one by one."""
    rows: list[list[Cell]] = [
        [o.train, task_title(o.task), o.records, o.exact, o.normalised, f"{100 * o.normalised / o.records:.2f}"]
        for o in sorted(found.overlaps, key=lambda o: (o.train, -o.normalised / o.records))
        if o.normalised
    ]
    clean = Counter(o.train for o in found.overlaps if not o.normalised)
    notes = [f"{train}: nothing in common with {'the other ' * (train in {r[0] for r in rows})}{n} test set{'s' * (n > 1)}."
             for train, n in clean.items()]  # fmt: skip
    header = ["training file", "test set", "test questions", "exact", "normalised", "normalised %"]
    return [
        f"# Audit of {Path(found.folder).name}",
        summary(found),
        Table("Test questions in training files", header, rows, notes),
        _files("Test sets", [f for f in found.files if f.kind == "test"]),
        _files("Training files", [f for f in found.files if f.kind == "train"]),
    ]


def _files(title: str, files: Sequence[FileReport]) -> Table:
    rows: list[list[Cell]] = []
    notes = []
    for f in files:
        best = None if f.majority_pct is None else f"{f.majority_pct:.1f}"
        row: list[Cell] = [f.file, f.records, f.repeated_exactly, f.repeated, f.majority, best]
        rows.append([*row, f.unreadable, f.contradictory, f.empty])
        if f.unreadable:
            notes.append(f"{f.file}: unreadable gold answer in record {_first(f.unreadable_records, f.unreadable)}.")
        if f.contradictory:
            shown = [f'"{_cut(q)}"' for q in f.contradictory_questions]
            notes.append(f"{f.file}: different gold answers to {_first(shown, f.contradictory)}.")
    header = [
        "file",
        "records",
        "repeated exactly",
        "repeated",
        "majority answer",
        "its %",
        "unreadable",
        "contradictory",
        "empty",
    ]
    rules = [
        "Normalised, and repeated: instruction and input in lower-case words and numbers, whatever stands between them; "
        "options belong to the question. Paraphrases are not found.",
        "Majority answer: the most frequent gold answer; its share is what answering without reading gives.",
        "Unreadable: a gold answer that is none of the question's options, or no number. Contradictory: questions "
        "with several gold answers. Empty: no response; training leaves these records out.",
    ]
    return Table(title, header, rows, [*notes, *rules])


def _first(names: Sequence[object], count: int) -> str:
    more = count - len(names)
    return ", ".join(map(str, names)) + (f" and {more} more" if more else "")


def _cut(text: str, length: int = 90) -> str:
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0] + " ..."

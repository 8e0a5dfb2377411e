"""Brings the instruction mixtures and benchmarks of a family onto this machine, as files of the layout that `--data` takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from smt_bench.data.benchmarks import posed
from smt_bench.data.family import Family, Mixture
from smt_bench.machine.files import write_whole

CONVERSATION = ("messages", "instruction", "input", "output")  # what is kept of a record


def fetch_mixtures(family: Family, root: Path, say: Callable[[str], None]) -> Path:
    """Downloads what is not here yet; what cannot be had is named and left out. Returns the folder.

    Args:
        family: one with mixtures.
        root: the folder.
        say: one-line messages.

    Raises:
        ValueError: no mixture can be had, or no benchmark.
    """
    made: dict[str, list[tuple[str, Path, Callable[[], Iterable[Mapping[str, Any]]]]]] = {
        "mixture": [
            (m.title, root / "ft-training_set" / f"{m.name}.jsonl", partial(_records, m)) for m in family.mixtures
        ],
        "benchmark": [
            (t.title, root / "dataset" / t.name / "test.jsonl", partial(_questions, t.name)) for t in family.tasks
        ],
    }
    for kind, parts in made.items():
        reasons = [why for title, target, get in parts if (why := _fetch(f"{kind} {title}", target, get, say))]
        if len(reasons) == len(parts):
            raise ValueError(
                f"no {kind} of {family.name} can be downloaded ({reasons[0]}): run `fetch {family.name}` on a machine with a "
                "network and pass that folder with --data"
            )
    return root


def _fetch(
    what: str, target: Path, get: Callable[[], Iterable[Mapping[str, Any]]], say: Callable[[str], None]
) -> str | None:
    """Why it cannot be had; None where it is here."""
    if target.is_file():
        return None
    say(f"downloading {what}")
    try:
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in get()]
    except Exception as error:  # whatever the transport raises, the remedy is the same
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        say(f"note: {what} cannot be downloaded ({reason}): left out")
        return reason
    write_whole(target, lambda file: file.writelines(line.encode() for line in lines))
    return None


def _questions(name: str) -> list[dict[str, Any]]:
    return [asdict(question) for question in posed(name)]


def _records(mixture: Mixture) -> list[dict[str, Any]]:
    import datasets

    rows = datasets.load_dataset(mixture.hub, split="train")
    kept = [row for row in rows if not mixture.part or row["dataset"] == mixture.part]
    if not kept:
        raise ValueError(f"{mixture.hub} has no records whose dataset is {mixture.part!r}")
    return [{name: row[name] for name in CONVERSATION if row.get(name) is not None} for row in kept]

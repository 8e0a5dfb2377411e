"""What lies in a results folder: experiments by model, their tables, figures and runs, and tunings."""

from __future__ import annotations

import csv
import json
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smt_bench.records.files import BenchWarning
from smt_bench.records.index import INDEX, Index
from smt_bench.records.looks import may_be_seen

OTHERS = frozenset({"runs", "report", "adapters", "logs", "tracking"})  # folders that hold no tables of an experiment
TUNING = "tuning.json"


@dataclass(frozen=True)
class Study:
    """A folder of tables.

    Attributes:
        place: below the results folder, e.g. "plateau/tiny/math".
        folder: itself.
        keys: of the runs its tables are made of (the latest setting's).
        tables: Markdown files, the first first.
        figures: one file of each figure.
        claims: rows of its tables of claims, by the table's name.
        tunings: of its `tuning.json`, by hash; empty elsewhere.
        missing: declared runs without a record, before which nothing is decided.
    """

    place: str
    folder: Path
    keys: tuple[str, ...]
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    claims: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    tunings: dict[str, Any] = field(default_factory=dict)
    missing: int = 0

    @property
    def id(self) -> str:
        """For links within the page."""
        return slug(self.place)

    @property
    def experiment(self) -> str:
        """The first part of its place."""
        return self.place.partition("/")[0]

    @property
    def about(self) -> str:
        """What it is of: model, family, and "tuned" or "tuning"."""
        return ", ".join(self.place.split("/")[1:])


def slug(text: str) -> str:
    """Letters, digits and "-" that name a place within the page."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "x"


def studies(results: Path) -> list[Study]:
    """All folders with tables or runs, in order; what is damaged is left out with a warning (`Index.read`).

    Raises:
        ValueError: a newer version wrote an index.
    """
    found = []
    for where, below, names in os.walk(results):
        here = Path(where)
        if here == results:
            below[:] = [name for name in below if name not in OTHERS]
        below[:] = sorted(name for name in below if not name.startswith("."))
        names = sorted(name for name in names if not name.startswith("."))
        if here == results or not (INDEX in names or TUNING in names or any(n.endswith(".md") for n in names)):
            continue
        place = here.relative_to(results).as_posix()
        keys, missing = _keys(here, results) if INDEX in names else ((), 0)
        figures = {Path(n).stem: here / n for n in names if n.endswith(".png")}
        found.append(
            Study(
                place,
                here,
                keys,
                tuple(sorted((here / n for n in names if n.endswith(".md")), key=_first)),
                tuple(figures.values()),
                {n[: -len(".csv")]: rows(here / n) for n in names if n.endswith("claims.csv")},
                _tunings(here / TUNING) if TUNING in names else {},
                missing,
            )
        )
    return found


def _keys(here: Path, results: Path) -> tuple[tuple[str, ...], int]:
    """Of a folder's latest setting, without runs that wait for others of their look; how many declared ones are missing."""
    index = Index.read(here)
    try:
        keys, missing = may_be_seen(
            here, index.latest, index.keys, lambda key: (results / "runs" / f"{key}.json").exists()
        )
    except ValueError as error:
        warnings.warn(str(error), BenchWarning, stacklevel=2)
        return tuple(index.keys), 0
    return tuple(keys), missing


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _first(path: Path) -> tuple[bool, str]:
    """Main tables before those of claims, seeds and the like, which have longer names."""
    return "_" in path.stem, path.stem


def _tunings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["tunings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # `run --tuned` says what is wrong with it
    return found if isinstance(found, dict) else {}

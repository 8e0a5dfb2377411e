"""Which runs belong together: the index beside an experiment's tables, and what its runs are called. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smt_bench.machine.borders import folder_name
from smt_bench.records.files import BenchWarning, write_text
from smt_bench.records.runs import Measurement, Question, Run
from smt_bench.records.store import Store

INDEX = "runs.json"


def folder(store: Store, experiment: str, model: str, below: str = "") -> Path:
    """Where tables and figures of one experiment on one model go; data families may have a sub-folder of their own."""
    return store.root / experiment / folder_name(model) / below


@dataclass
class Index:
    """Which runs an experiment's tables are made of, by setting; kept beside the tables.

    A setting is all that a table holds fixed (`Run.setting`). Asking for more methods, fractions or seeds under the same
    setting adds to its runs; other settings are kept apart, never mixed.
    """

    path: Path
    settings: dict[str, list[str]]
    latest: str | None
    names: dict[str, str] = field(
        default_factory=dict
    )  # what a run is, in a few words, also where it has no record yet

    @classmethod
    def read(cls, path: Path) -> Index:
        """The index in `path`; empty where there is none or it is damaged (records are never lost with it)."""
        try:
            values = json.loads((path / INDEX).read_text(encoding="utf-8"))
            return cls(
                path, {k: list(v) for k, v in values["settings"].items()}, values["latest"], values.get("names", {})
            )
        except FileNotFoundError:
            return cls(path, {}, None)
        except (ValueError, KeyError, TypeError, AttributeError):
            aside = path / f"{INDEX}.damaged"
            with contextlib.suppress(OSError):
                (path / INDEX).replace(aside)
            what = f"{path / INDEX} is damaged, set aside as {aside.name}: repeat `run` to list its runs again"
            warnings.warn(what, BenchWarning, stacklevel=2)
            return cls(path, {}, None)

    def add(self, runs: Sequence[Question]) -> None:
        """Lists runs of one setting and makes it the latest."""
        self.latest = runs[0].setting
        keys = self.settings.setdefault(self.latest, [])
        keys += [run.key for run in runs if run.key not in keys]
        self.names |= describe(runs)
        values = {"schema": 1, "latest": self.latest, "settings": self.settings, "names": self.names}
        write_text(self.path / INDEX, json.dumps(values, indent=1) + "\n")

    @property
    def keys(self) -> list[str]:
        """The keys of the latest setting."""
        return self.settings.get(self.latest or "", [])


def describe(runs: Sequence[Question]) -> dict[str, str]:
    """By key, each run in a few words, e.g. "smt 0.84 % seed 0 scope=random": settings only where they vary."""
    settings = varied(runs)
    return {run.key: " ".join([_words(run), *_plain(settings.get(run.key, {}))]) for run in runs}


def _words(run: Question) -> str:
    if isinstance(run, Measurement):
        return f"{run.kind} {run.model.name} seed {run.seed}"
    fraction = "" if run.method.fraction is None else f" {run.method.fraction * 100:g} %"
    return f"{run.method.name}{fraction} seed {run.seed}"


def _plain(settings: dict[str, Any]) -> list[str]:
    return [f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in settings.items()]


def varied(questions: Sequence[Question]) -> dict[str, dict[str, Any]]:
    """By key, the method's settings that are not the same in all runs of that method."""
    runs = [run for run in questions if isinstance(run, Run)]
    values: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        for name, value in run.method.config.items():
            values.setdefault((run.method.name, name), set()).add(json.dumps(value))
    # A setting that only some configs have varies too.
    sizes = Counter(run.method.name for run in runs)
    present = Counter((run.method.name, name) for run in runs for name in run.method.config)
    return {
        run.key: {
            name: value
            for name, value in run.method.config.items()
            if len(values[run.method.name, name]) > 1 or present[run.method.name, name] < sizes[run.method.name]
        }
        for run in runs
    }

"""Which runs belong together: the index beside an experiment's tables, and what its runs are called. Imports nothing heavy."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smt_bench.machine.borders import folder_name
from smt_bench.machine.files import write_text
from smt_bench.records.exclusive import alone
from smt_bench.records.files import BenchWarning, set_aside
from smt_bench.records.runs import Measurement, Question, Run
from smt_bench.records.shapes import Each, Named, mismatch
from smt_bench.records.store import Store

INDEX = "runs.json"
TUNING = "tuning"  # folder of a tuning, below the experiment's
SCHEMA = 1
NAMES = {"schema", "latest", "settings", "names", "left_out"}  # of an index; others are a newer version's


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
    left_out: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # by setting: what was asked for and not done, and why

    @classmethod
    def read(cls, path: Path) -> Index:
        """The index in `path`; empty where there is none or, with a warning, it is damaged. Changes nothing.

        Raises:
            ValueError: a newer version wrote it, or it cannot be read now.
        """
        try:
            return cls._read(path)
        except _Damaged as error:
            what = f"{path / INDEX} is damaged ({error}): repeat `run`, which sets it aside, to list its runs again"
            warnings.warn(what, BenchWarning, stacklevel=2)
            return cls(path, {}, None)

    @classmethod
    def _read(cls, path: Path) -> Index:
        try:
            values = json.loads((path / INDEX).read_bytes().decode())
            if type(values["schema"]) is int and values["schema"] > SCHEMA or values.keys() - NAMES:
                raise ValueError(f"{path / INDEX} was written by a newer version: update smt-bench")
            index = cls(path, values["settings"], values["latest"], values.get("names", {}), values.get("left_out", {}))
        except FileNotFoundError:
            return cls(path, {}, None)
        except OSError as error:
            raise ValueError(f"{path / INDEX} cannot be read ({error.strerror}): check its permissions") from None
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            raise _Damaged("it is not complete JSON") from None
        except (KeyError, TypeError, AttributeError):
            raise _Damaged("it is not an index") from None
        wrong = mismatch(index.settings, Named(Each(str)), "settings") or mismatch(index.names, Named(str), "names")
        wrong = wrong or mismatch(index.left_out, Named(Named(str)), "left_out")
        if wrong or not (index.latest is None or type(index.latest) is str):
            raise _Damaged(wrong or "latest is no text")
        return index

    def add(self, runs: Sequence[Question], left_out: Mapping[str, str] | None = None) -> None:
        """Lists runs of one setting and makes it the latest, beside whatever other processes add at the same time.

        Args:
            runs: of one setting.
            left_out: what was asked for beside them and is not done, and why.

        Raises:
            ValueError: another process keeps the index, or a newer version wrote it.
            OSError: it cannot be written; names the file.
        """
        with alone(self.path / f".{INDEX}.lock", f"the index {self.path / INDEX}"):
            self._set_damaged_aside()
            now = Index.read(self.path)
            setting = runs[0].setting
            listed = dict.fromkeys(now.settings.get(setting, []))
            listed |= dict.fromkeys(run.key for run in runs)
            self.settings = {**now.settings, setting: list(listed)}
            self.latest, self.names = setting, now.names | describe(runs)
            self.left_out = dict(now.left_out)
            if left_out:
                self.left_out[setting] = {**now.left_out.get(setting, {}), **left_out}
            values = {"schema": SCHEMA, "latest": self.latest, "settings": self.settings, "names": self.names}
            values |= {"left_out": self.left_out} if self.left_out else {}
            write_text(self.path / INDEX, json.dumps(values, indent=1) + "\n")

    def again(self) -> Index:
        """The index as it is now, with what other processes have added, still on this one's setting."""
        now = Index.read(self.path)
        now.latest = self.latest
        return now

    @property
    def keys(self) -> list[str]:
        """The keys of the latest setting."""
        return self.settings.get(self.latest or "", [])

    def _set_damaged_aside(self) -> None:
        try:
            Index._read(self.path)
        except _Damaged as error:
            aside = set_aside(self.path / INDEX, "damaged")
            what = f"{self.path / INDEX} is damaged ({error}), set aside as {aside.name}"
            warnings.warn(what, BenchWarning, stacklevel=3)


class _Damaged(Exception):
    """An index that cannot be read, and why."""


def describe(runs: Sequence[Question]) -> dict[str, str]:
    """By key, each run in a few words, e.g. "smt 0.84 % seed 0 scope=random": settings, rate and steps only where they vary."""
    settings = varied(runs, training=True)
    return {run.key: " ".join([_words(run), *_plain(settings.get(run.key, {}))]) for run in runs}


def _words(run: Question) -> str:
    if isinstance(run, Measurement):
        return f"{run.kind} {run.model.name} seed {run.seed}"
    fraction = "" if run.method.fraction is None else f" {run.method.fraction * 100:g} %"
    base = f" over {run.train.base}" if run.train.base else ""
    return f"{run.method.name}{base}{fraction} seed {run.seed}{' tuned' if run.tuning else ''}"


def _plain(settings: dict[str, Any]) -> list[str]:
    return [f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in settings.items()]


def varied(questions: Sequence[Question], training: bool = False) -> dict[str, dict[str, Any]]:
    """By key, the method's settings, and what the loss is on, that are not the same in all runs of that method.

    Args:
        questions: of which runs that train count.
        training: learning rate and steps too.
    """
    asked = {run.key: (run.method.name, _asked(run, training)) for run in questions if isinstance(run, Run)}
    values: dict[tuple[str, str], set[str]] = {}
    for method, settings in asked.values():
        for name, value in settings.items():
            values.setdefault((method, name), set()).add(json.dumps(value))
    # A setting that only some configs have varies too.
    sizes = Counter(method for method, _ in asked.values())
    present = Counter((method, name) for method, settings in asked.values() for name in settings)
    return {
        key: {
            name: value
            for name, value in settings.items()
            if len(values[method, name]) > 1 or present[method, name] < sizes[method]
        }
        for key, (method, settings) in asked.items()
    }


def _asked(run: Run, training: bool) -> dict[str, Any]:
    found = {
        **run.method.config,
        "train_on_inputs": run.data.train_on_inputs,
        "train": run.data.train,
        "trained_on": run.data.only or "all tasks",
    }
    found |= {"parts": list(run.parts)} if run.parts else {}
    return found | ({"lr": run.train.lr, "steps": run.train.steps} if training else {})

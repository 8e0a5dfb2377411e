"""A sweep: which runs belong together, doing what is missing, and showing how far it is."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from smt_bench.data import DataSet
from smt_bench.execute import Watcher
from smt_bench.runs import Measurement, Question
from smt_bench.store import FINISHED, Record, Store, write_text
from smt_bench.summary import task_title

INDEX = "runs.json"


def folder(store: Store, experiment: str, model: str, family: str) -> Path:
    """Where tables and figures of one experiment on one model go; math has a folder of its own below."""
    path = store.root / experiment / model.replace("/", "--")
    return path if family == "commonsense" else path / family


@dataclass
class Index:
    """Which runs an experiment's tables are made of, by setting; kept beside the tables.

    A setting is all that a table holds fixed (`Run.setting`). Asking for more methods, fractions or seeds under the same
    setting adds to its runs; other settings are kept apart, never mixed.
    """

    path: Path
    settings: dict[str, list[str]]
    latest: str | None

    @classmethod
    def read(cls, path: Path) -> Index:
        """The index in `path`; empty where there is none or it is damaged (records are never lost with it)."""
        try:
            values = json.loads((path / INDEX).read_text(encoding="utf-8"))
            return cls(path, {k: list(v) for k, v in values["settings"].items()}, values["latest"])
        except FileNotFoundError:
            return cls(path, {}, None)
        except (ValueError, KeyError, TypeError, AttributeError):
            warnings.warn(
                f"{path / INDEX} is damaged: starting a new one; repeat `run` to list its runs again", stacklevel=2
            )
            return cls(path, {}, None)

    def add(self, runs: Sequence[Question]) -> None:
        """Lists runs of one setting and makes it the latest."""
        self.latest = runs[0].setting
        keys = self.settings.setdefault(self.latest, [])
        keys += [run.key for run in runs if run.key not in keys]
        values = {"schema": 1, "latest": self.latest, "settings": self.settings}
        write_text(self.path / INDEX, json.dumps(values, indent=1) + "\n")

    @property
    def keys(self) -> list[str]:
        """The keys of the latest setting."""
        return self.settings.get(self.latest or "", [])


def describe(run: Question) -> str:
    """One run in a few words, e.g. "smt 0.84 % seed 0"."""
    if isinstance(run, Measurement):
        return f"{run.kind} {run.model.name} seed {run.seed}"
    fraction = "" if run.method.fraction is None else f" {run.method.fraction * 100:g} %"
    return f"{run.method.name}{fraction} seed {run.seed}"


def outcome(record: Record) -> str:
    """What came out of a run, in a few words."""
    if record["status"] != "done":
        return f"{record['status']}: {record['message']}"
    if "evaluation" not in record:
        return f"{record['seconds']['total']:.0f} s"
    scores = [task["accuracy"] for task in record["evaluation"].values()]
    accuracy = f"accuracy {100 * sum(scores) / len(scores):.1f} %" if scores else "no tasks"
    nll = record["heldout"]["nll"]
    heldout = "" if nll is None else f", held-out NLL {nll:.3f}"
    return f"{accuracy}{heldout}, {record['seconds']['total']:.0f} s"


def overlap_warning(data: DataSet) -> str | None:
    """One line on test questions that are also trained on; None where there are none."""
    found = [f"{task_title(t)} {n:,} of {len(data.tests[t]):,}" for t, n in data.overlap.items() if n]
    if not found:
        return None
    return f"training set {data.train_source} holds test questions ({', '.join(found)}): marked in the tables"


class Interrupted(Exception):
    """Ctrl-C: so many runs of the sweep are finished."""


def sweep(
    runs: Sequence[Question], store: Store, perform: Callable[[Any, Watcher], Record], console: Console
) -> Counter[str]:
    """Does the runs without a finished record; every record is on disk before the next run starts.

    Args:
        runs: in the order in which they are to be done.
        store: where the records are.
        perform: answers one run, whatever happens; it is given a progress watcher.
        console: for progress.

    Returns:
        How many runs ended how; "there" counts those that were finished before.

    Raises:
        Interrupted: Ctrl-C.
    """
    missing = store.missing(runs)
    counts: Counter[str] = Counter(there=len(runs) - len(missing))
    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        whole = bars.add_task("sweep", total=len(runs), completed=counts["there"], note="")
        one = bars.add_task("run", total=None, note="")

        def watch(phase: str, done: int, total: int, note: str = "") -> None:
            task = bars.tasks[one]
            if task.description != phase:
                bars.reset(one, description=phase, total=total)
            bars.update(one, completed=done, total=total, note=note)

        for number, run in enumerate(missing, start=counts["there"] + 1):
            try:
                bars.update(whole, note=describe(run))
                bars.reset(one, description="loading", total=None, note="")
                record = perform(run, watch)
                store.write(record)
                counts[record["status"]] += 1
                bars.advance(whole)
                console.print(
                    f"[{number}/{len(runs)}] {describe(run)}: {outcome(record)}", markup=False, highlight=False
                )
            except KeyboardInterrupt:
                done = sum(counts[status] for status in ("there", *FINISHED))
                raise Interrupted(f"{done} of {len(runs)} runs are finished") from None
    return counts


def print_to(stream: Any = None) -> Console:
    """A console for messages: standard error, so that standard output stays clean for `--json`."""
    return Console(file=stream or sys.stderr, soft_wrap=True)

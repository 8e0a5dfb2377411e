"""A sweep: which runs belong together, doing what is missing, and showing how far it is."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from smt_bench import parallel
from smt_bench.checkpoint import Checkpoints
from smt_bench.claims import Claim, Claims
from smt_bench.data import DataSet
from smt_bench.execute import Watcher
from smt_bench.resume import Keeper, Pace
from smt_bench.runs import Measurement, Question
from smt_bench.stopping import Stop
from smt_bench.store import FINISHED, Record, Store, write_text
from smt_bench.summary import task_title

INDEX = "runs.json"
POLL = 1.0  # seconds between looks at what other processes are doing
Perform = Callable[[Any, Watcher, Keeper], Record]


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
            warnings.warn(
                f"{path / INDEX} is damaged: starting a new one; repeat `run` to list its runs again", stacklevel=2
            )
            return cls(path, {}, None)

    def add(self, runs: Sequence[Question]) -> None:
        """Lists runs of one setting and makes it the latest."""
        self.latest = runs[0].setting
        keys = self.settings.setdefault(self.latest, [])
        keys += [run.key for run in runs if run.key not in keys]
        self.names |= {run.key: describe(run) for run in runs}
        values = {"schema": 1, "latest": self.latest, "settings": self.settings, "names": self.names}
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
    """Ctrl-C or another signal: so many runs of the sweep are finished."""


class Broken(Exception):
    """The processes of a run are no longer in step: all of them have to be started again."""


def checkpoints(store: Store, key: str) -> Checkpoints:
    """Where a run's states are kept while it is not finished."""
    return Checkpoints(store.root / "checkpoints" / key)


def set_failed_aside(runs: Sequence[Question], store: Store) -> None:
    """Takes the records of failed runs out of use, so that they are done again."""
    for run in runs:
        path = store.path(run.key)
        if (store.read(run.key) or {"status": "done"})["status"] not in FINISHED:
            with contextlib.suppress(FileNotFoundError):  # another process of this command did it
                path.replace(path.with_name(path.name + ".retried"))


def sweep(
    runs: Sequence[Question],
    store: Store,
    perform: Perform,
    console: Console,
    stop: Stop | None = None,
    pace: Pace | None = None,
    idle: Callable[[], None] = lambda: time.sleep(POLL),
) -> Counter[str]:
    """Does the runs without a record, beside any other processes that do the same in this folder.

    Every run is claimed first; at the end this waits for those that other processes have claimed, and takes over what they
    leave when they die. Every record is on disk before the next run starts.

    Args:
        runs: in the order in which they are to be done.
        store: where the records are.
        perform: answers one run, whatever happens; it is given a progress watcher and the run's checkpoints.
        console: for progress.
        stop: whether this process was asked to leave.
        pace: how often runs are checkpointed.
        idle: passes the time while only other processes have something to do.

    Returns:
        How many runs ended how; "there" counts those that others, or earlier sweeps, have finished.

    Raises:
        Interrupted: asked to leave.
        Broken: a run that several processes shared has failed; its record is written.
    """
    stop, pace, claims = stop or Stop(), pace or Pace(), Claims(store.runs)
    counts: Counter[str] = Counter()
    waiting = list(runs)
    with Bars(console, len(runs)) as bars:
        try:
            while waiting:
                before = len(waiting)
                for run in list(waiting):
                    record = store.read(run.key)
                    claim = None if record else claims.take(run.key)
                    if claim is not None:
                        bars.start(describe(run))
                        keeper = Keeper(checkpoints(store, run.key), pace, stop)
                        record, ours = _claimed(run, claim, store, perform, bars, keeper)
                        if ours:
                            counts[record["status"]] += 1
                            bars.finish(f"{describe(run)}: {outcome(record)}")
                            if record["status"] not in FINISHED and parallel.size() > 1:
                                raise Broken(record["message"])
                    elif record is not None:
                        _tidy(run.key, record, claims, store)
                        counts["there" if record["status"] in FINISHED else record["status"]] += 1
                        bars.finish()
                    if record is not None:
                        waiting.remove(run)
                if len(waiting) == before:
                    bars.start(f"waiting for {before} of other processes")
                    idle()
        except KeyboardInterrupt:
            done = sum(counts[status] for status in ("there", *FINISHED))
            raise Interrupted(f"{done} of {len(runs)} runs are finished") from None
    return counts


def _claimed(
    run: Question, claim: Claim, store: Store, perform: Perform, bars: Bars, keeper: Keeper
) -> tuple[Record, bool]:
    """Does a run that this process has claimed; its record, and False where another process had just finished it."""

    def watch(phase: str, done: int, total: int, note: str = "") -> None:
        bars.watch(phase, done, total, note)
        claim.say(phase, done, total)
        keeper.stop.poll()  # what another thread asked for

    try:
        claim.start(keeper.stop.request)
        record = store.read(run.key)
        if record is not None:
            return record, False
        record = perform(run, watch, keeper)
        with keeper.stop.held():
            if record["status"] not in FINISHED and (first := store.read(run.key)) is not None:
                return first, True  # of the process that failed first and knows why
            store.write(record)
            if record["status"] in FINISHED and keeper.files is not None:
                keeper.files.clear()
        return record, True
    finally:
        with keeper.stop.held():
            claim.release()


def _tidy(key: str, record: Record, claims: Claims, store: Store) -> None:
    """Removes what a process left that was killed after writing a record; a failed run keeps its checkpoint."""
    left = checkpoints(store, key)
    over = record["status"] in FINISHED and left.folder.exists()
    if not (over or claims.path(key).exists()):
        return
    claim = claims.take(key)  # None: its owner is alive and about to do this itself
    if claim is not None:
        if over:
            left.clear()
        claim.release()


class Bars:
    """Progress on a terminal, and one line per finished run.

    Args:
        console: where to.
        total: runs of the sweep.
    """

    def __init__(self, console: Console, total: int) -> None:
        columns: list[Any] = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        ]
        self.total, self.console = total, console
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._whole = self._bars.add_task("sweep", total=total, note="")
        self._one = self._bars.add_task("run", total=None, note="")

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, what: str) -> None:
        """A run begins."""
        self._bars.update(self._whole, note=what)
        self._bars.reset(self._one, description="loading", total=None, note="")

    def watch(self, phase: str, done: int, total: int, note: str = "") -> None:
        """The run goes by."""
        if self._bars.tasks[self._one].description != phase:
            self._bars.reset(self._one, description=phase, total=total)
        self._bars.update(self._one, completed=done, total=total, note=note)

    def finish(self, line: str = "") -> None:
        """A run is over; `line` says how."""
        self._bars.advance(self._whole)
        if line:
            number = int(self._bars.tasks[self._whole].completed)
            self.console.print(f"[{number}/{self.total}] {line}", markup=False, highlight=False)


def print_to(stream: Any = None) -> Console:
    """A console for messages: standard error, so that standard output stays clean for `--json`."""
    return Console(file=stream or sys.stderr, soft_wrap=True)

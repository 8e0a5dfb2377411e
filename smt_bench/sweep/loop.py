"""A sweep: which runs belong together, doing what is missing, and showing how far it is."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from rich.console import Console

from smt_bench.machine import parallel
from smt_bench.machine.signals import Stop
from smt_bench.machine.watch import Watcher
from smt_bench.records.index import describe
from smt_bench.records.runs import Question
from smt_bench.records.store import FINISHED, Record, Store
from smt_bench.sweep.locks import Lock, Locks
from smt_bench.sweep.progress import Bars, outcome
from smt_bench.training.checkpoint import checkpoints
from smt_bench.training.resume import Keeper, Pace

POLL = 1.0  # seconds between looks at what other processes are doing
LINES = 10  # runs at a time of which it is said what they wait for
Perform = Callable[[Any, Watcher, Keeper], Record]


class Interrupted(Exception):
    """Ctrl-C or another signal: so many runs of the sweep are finished."""


class Broken(Exception):
    """The processes of a run are no longer in step: all of them have to be started again."""


def set_failed_aside(runs: Sequence[Question], store: Store) -> None:
    """Takes the records of failed runs out of use, so that they are done again."""
    for run in runs:
        with contextlib.suppress(FileNotFoundError):  # another process of this command did it
            store.set_failed_aside(run.key)


def ready(run: Question, runs: Collection[str], store: Store) -> bool:
    """Whether all that a run is made of has been done, whatever became of it; what is not among these runs is not waited for."""
    return all(store.read(part) is not None for part in getattr(run, "parts", ()) if part in runs)


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
    stop, pace, locks = stop or Stop(), pace or Pace(), Locks(store.runs)
    counts: Counter[str] = Counter()
    waiting, names = list(runs), describe(runs)
    told: set[tuple[str, Any]] = set()  # runs and owners that this process has said it waits for
    with Bars(console, len(runs)) as bars:
        try:
            while waiting:
                before = len(waiting)
                for run in list(waiting):
                    record = store.read(run.key)
                    lock = None if record or not ready(run, names, store) else locks.take(run.key)
                    if lock is not None:
                        bars.start(names[run.key])
                        keeper = Keeper(checkpoints(store, run.key), pace, stop)
                        record, ours = _claimed(run, lock, store, perform, bars, keeper)
                        if ours:
                            counts[record["status"]] += 1
                            bars.finish(f"{names[run.key]}: {outcome(record)}")
                            if record["status"] not in FINISHED and parallel.size() > 1:
                                raise Broken(record["message"])
                    elif record is not None:
                        _tidy(run.key, record, locks, store)
                        counts["there" if record["status"] in FINISHED else record["status"]] += 1
                        bars.finish()
                    if record is not None:
                        waiting.remove(run)
                if len(waiting) == before:
                    bars.start(f"waiting for {before} of other processes")
                    for run in waiting[:LINES]:
                        if not ready(run, names, store):  # what it is made of is waited for, and named
                            continue
                        whose = (run.key, (locks.owner(run.key) or {}).get("token"))
                        if whose not in told:
                            told.add(whose)
                            bars.say(f"waiting for {names[run.key]}: {locks.waits_for(run.key)}")
                    idle()
        except KeyboardInterrupt:
            done = sum(counts[status] for status in ("there", *FINISHED))
            raise Interrupted(f"{done} of {len(runs)} runs are finished") from None
    return counts


def _claimed(
    run: Question, lock: Lock, store: Store, perform: Perform, bars: Bars, keeper: Keeper
) -> tuple[Record, bool]:
    """Does a run that this process has claimed; its record, and False where another process had just finished it."""

    def watch(phase: str, done: int, total: int, note: str = "") -> None:
        bars.watch(phase, done, total, note)
        lock.say(phase, done, total)
        keeper.stop.poll()  # what another thread asked for

    dying = False
    try:
        with keeper.stop.held():  # a thread that is half started could not be waited for
            lock.start(keeper.stop.request)
        keeper.stop.poll()
        record = store.read(run.key)
        if record is not None:
            return record, False
        store.set_damaged_aside(run.key)
        with store.room(run) as room:  # a disk that is full after the training has cost no more than a moment
            record = perform(run, watch, keeper)
            with keeper.stop.held():
                if record["status"] not in FINISHED and (first := store.read(run.key)) is not None:
                    return first, True  # of the process that failed first and knows why
                store.write(record, room)
                if record["status"] in FINISHED and keeper.files is not None:
                    keeper.files.clear()
        return record, True
    except parallel.Gone:
        # Without a record the lock stays, so that whoever started these processes sees what they were on.
        dying = store.read(run.key) is None
        raise
    finally:
        if not dying:
            with keeper.stop.held():
                lock.release()


def _tidy(key: str, record: Record, locks: Locks, store: Store) -> None:
    """Removes what a process left that was killed after writing a record; a failed run keeps its checkpoint."""
    left = checkpoints(store, key)
    over = record["status"] in FINISHED and left.folder.exists()
    if not (over or locks.path(key).exists()):
        return
    lock = locks.take(key)  # None: its owner is alive and about to do this itself
    if lock is not None:
        if over:
            left.clear()
        lock.release()

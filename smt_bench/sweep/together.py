"""One sweep by several processes that share every run: rank 0 leads, the others do as it says."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

from rich.console import Console

from smt_bench.machine import parallel, signals
from smt_bench.machine.borders import terminal
from smt_bench.machine.watch import Watcher, unwatched
from smt_bench.records.runs import Question
from smt_bench.records.store import FINISHED, Record, Store
from smt_bench.sweep.loop import POLL, Broken, Perform, sweep
from smt_bench.training.checkpoint import checkpoints
from smt_bench.training.resume import Keeper, Pace

IDLE = "idle"  # what rank 0 says while it waits for runs of other processes


def sweep_together(
    runs: Sequence[Question], store: Store, perform: Perform, console: Console, stop: signals.Stop, pace: Pace
) -> Counter[str]:
    """`sweep` for one process, or for several that a launcher started: rank 0 leads, the others do as it says.

    Raises:
        Interrupted: asked to leave.
    """
    if parallel.size() == 1:
        return sweep(runs, store, perform, console, stop, pace)
    if parallel.rank() > 0:
        _follow(runs, store, perform, stop, pace)
        return Counter()

    def lead(run: Any, watch: Watcher, keeper: Keeper) -> Record:
        parallel.broadcast(run.key)
        return perform(run, watch, keeper)

    def idle() -> None:
        parallel.broadcast(IDLE)  # or the others' wait would reach its limit
        time.sleep(POLL)

    try:
        counts = sweep(runs, store, lead, console, stop, pace, idle)
    except (Broken, parallel.Gone) as error:
        _leave_broken(str(error))
    parallel.broadcast(None)
    return counts


def _follow(runs: Sequence[Question], store: Store, perform: Perform, stop: signals.Stop, pace: Pace) -> None:
    by_key = {run.key: run for run in runs}
    while (key := parallel.broadcast(None)) is not None:
        if key == IDLE:
            continue
        try:
            record = perform(by_key[key], unwatched, Keeper(checkpoints(store, key), pace, stop))
        except parallel.Gone as error:
            _leave_broken(f"rank {parallel.rank()}: {error}")
        if record["status"] not in FINISHED:
            store.write(record)  # rank 0 may only see that this process is gone
            _leave_broken(f"rank {parallel.rank()}: {record['message']}\n" + "\n".join(record["traceback"]))


def _leave_broken(why: str) -> NoReturn:
    """Ends this process alone: whoever started all of them ends the others, which may wait for this one."""
    print(terminal(f"error: {why}"), file=sys.stderr, flush=True)
    os._exit(1)

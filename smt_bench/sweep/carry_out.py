"""How a sweep's runs are carried out: in this process, in workers that share them through claims, or as a cluster's tasks.

A worker is `python -m smt_bench work ORDER`: it reads what was asked for, plans the same runs again and sweeps them. It
knows nothing of the others but their claims, so that any of them may die.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from smt_bench.machine import parallel, signals
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.records.runs import Question, Run
from smt_bench.records.store import Store
from smt_bench.sweep.loop import Perform, ready
from smt_bench.sweep.slurm import Allocation, queued, submit
from smt_bench.sweep.together import sweep_together
from smt_bench.training import zero
from smt_bench.training.resume import Pace

MOST_JOBS = 1000  # workers on one machine


@dataclass(frozen=True)
class How:
    """What a user chose about carrying out; no result depends on it.

    Attributes:
        spread: of each run.
        jobs: runs at the same time on this machine.
        pace: of checkpoints.
        cluster: where the runs are submitted to; None: this machine.
        deterministic: see `machine.determinism`.
        track: which tracker is told of the runs; None: none.

    Raises:
        ValueError: a number that cannot be, or choices that do not go together.
    """

    spread: Spread = ALONE
    jobs: int = 1
    pace: Pace = field(default_factory=Pace)
    cluster: Allocation | None = None
    deterministic: bool = False
    track: str | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"--jobs {self.jobs}: choose a positive whole number")
        if self.jobs > MOST_JOBS:
            raise ValueError(f"--jobs {self.jobs}: choose at most {MOST_JOBS:,}")
        if self.pace.steps is not None and self.pace.steps < 1:
            raise ValueError(f"--checkpoint-steps {self.pace.steps}: choose a positive whole number")
        if not self.pace.seconds > 0:
            raise ValueError(f"--checkpoint-minutes {self.pace.seconds / 60:g}: choose a number above 0")
        if self.cluster is not None and self.jobs != 1:
            raise ValueError("--jobs goes with one machine: on a cluster every run is a task of its own")
        zero.check(self.spread)


def carry_out(
    runs: Sequence[Question], store: Store, how: How, perform: Perform, order: Callable[[], Path], console: Console
) -> Counter[str]:
    """Does the runs that have no record, in the way asked for; how many ended how.

    Args:
        runs: all of them.
        store: where the records are.
        how: in this process, if one is enough or a launcher has started it beside others; else in workers.
        perform: does one run in this process.
        order: writes down what workers do.
        console: for progress.

    Raises:
        Interrupted: asked to leave.
        ValueError: there are not enough GPUs.
    """
    from smt_bench.sweep.workers import slots, supervise

    parallel.join()
    check_shares(runs, how.spread)
    places = [{}] if parallel.launched() else slots(how.jobs, how.spread, os.environ)
    stop = signals.Stop()
    with stop.installed():
        if parallel.launched() or (how.spread.processes == 1 and places == [{}]):
            return sweep_together(runs, store, perform, console, stop, how.pace)
        return supervise(order(), how.spread, places, runs, store, console, stop)


def check_shares(runs: Sequence[Question], spread: Spread) -> None:
    """Every process needs an example of every micro-batch.

    Raises:
        ValueError: there are fewer.
    """
    for run in runs:
        if isinstance(run, Run):
            t = run.train
            smallest = min(t.micro_batch_size, t.batch_size % t.micro_batch_size or t.micro_batch_size)
            if smallest < spread.processes:
                raise ValueError(
                    f"--processes {spread.processes}: a micro-batch has {smallest} examples, shared by all processes: choose "
                    "fewer"
                )


def submit_missing(
    runs: Sequence[Question], store: Store, how: How, order: Callable[[], Path]
) -> tuple[str | None, int]:
    """Submits the runs that have no record and that SLURM does not have yet; the job id (None: nothing to do), how many.

    Args:
        runs: all of them.
        store: where the records are.
        how: on a cluster.
        order: writes down what the tasks do.

    Raises:
        ValueError: SLURM, or the request, does not allow it.
    """
    assert how.cluster is not None
    if not all(isinstance(run, Run) for run in runs):
        raise ValueError("--cluster: this experiment measures a machine: start it there, as a job of its own")
    check_shares(runs, how.spread)
    there = queued(store)
    keys = {run.key for run in runs}
    missing = [r for r in runs if store.read(r.key) is None and r.key not in there and ready(r, keys, store)]
    if not missing:
        return None, 0
    return submit(order(), missing, store, how.cluster, how.spread), len(missing)

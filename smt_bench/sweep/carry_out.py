"""How a sweep's runs are carried out: in this process, or in workers that share them through claims.

A worker is `python -m smt_bench work ORDER`: it reads what was asked for, plans the same runs again and sweeps them. It
knows nothing of the others but their claims, so that any of them may die.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from smt_bench.cli.work import Order, performer
from smt_bench.machine import parallel, signals
from smt_bench.questions.experiment import Experiment, MeasuringExperiment
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Question, Run
from smt_bench.records.store import Store
from smt_bench.sweep.slurm import Allocation, queued, submit
from smt_bench.sweep.together import sweep_together
from smt_bench.training.resume import Pace
from smt_bench.training.zero import Zero


@dataclass(frozen=True)
class How:
    """What a user chose about carrying out; no result depends on it.

    Attributes:
        jobs: runs at the same time on this machine.
        gpus_per_run: GPUs of each; None: shared out evenly.
        processes: that each run is spread over, data parallel.
        zero: how phases that train everything are sharded over them.
        pace: of checkpoints.
    """

    jobs: int = 1
    gpus_per_run: int | None = None
    processes: int = 1
    zero: Zero | None = None
    pace: Pace = field(default_factory=Pace)

    def __post_init__(self) -> None:
        counts = {"--jobs": self.jobs, "--gpus-per-run": self.gpus_per_run, "--processes": self.processes}
        for option, value in counts.items():
            if value is not None and value < 1:
                raise ValueError(f"{option} {value}: choose a positive whole number")
        if self.pace.steps is not None and self.pace.steps < 1:
            raise ValueError(f"--checkpoint-steps {self.pace.steps}: choose a positive whole number")
        if not self.pace.seconds > 0:
            raise ValueError(f"--checkpoint-minutes {self.pace.seconds / 60:g}: choose a number above 0")


def carry_out(
    experiment: Experiment, planner: Planner, runs: Sequence[Question], store: Store, how: How, console: Console
) -> Counter[str]:
    """Does the runs that have no record, in the way asked for; how many ended how.

    Raises:
        Interrupted: asked to leave.
        ValueError: there are not enough GPUs.
    """
    from smt_bench.sweep.workers import slots, supervise

    if parallel.launched() and (how.jobs, how.processes) != (1, 1):
        raise ValueError("--jobs and --processes start processes, and a launcher has started some: leave them out")
    if isinstance(experiment, MeasuringExperiment) and (how.jobs, how.gpus_per_run, how.processes) != (1, None, 1):
        raise ValueError(f"{experiment.name} measures this machine: leave --jobs, --gpus-per-run and --processes out")
    parallel.join()
    processes = max(how.processes, parallel.size())
    check_shares(runs, processes)
    places = slots(how.jobs, how.gpus_per_run, how.processes, os.environ)
    stop = signals.Stop()
    with stop.installed():
        if len(places) == how.processes == 1 and not places[0]:
            return sweep_together(runs, store, performer(experiment, planner, how.zero), console, stop, how.pace)
        order = Order(experiment.name, planner.request, store.root.absolute(), how.pace, how.zero).write()
        return supervise(order, how.processes, places, runs, store, console, stop)


def check_shares(runs: Sequence[Question], processes: int) -> None:
    """Every process needs an example of every micro-batch.

    Raises:
        ValueError: there are fewer.
    """
    for run in runs:
        if isinstance(run, Run):
            t = run.train
            smallest = min(t.micro_batch_size, t.batch_size % t.micro_batch_size or t.micro_batch_size)
            if smallest < processes:
                raise ValueError(
                    f"--processes {processes}: a micro-batch has {smallest} examples, shared by all processes: choose fewer"
                )


def submit_missing(
    experiment: Experiment, planner: Planner, runs: Sequence[Question], store: Store, how: How, wanted: Allocation
) -> tuple[str | None, int]:
    """Submits the runs that have no record and that SLURM does not have yet; the job id (None: nothing to do), how many.

    Raises:
        ValueError: SLURM, or the request, does not allow it.
    """
    if not all(isinstance(run, Run) for run in runs):
        raise ValueError("--cluster: this experiment measures a machine: start it there, as a job of its own")
    check_shares(runs, wanted.processes)
    there = queued(store)
    missing = [run for run in runs if store.read(run.key) is None and run.key not in there]
    if not missing:
        return None, 0
    order = Order(experiment.name, planner.request, store.root.absolute(), how.pace, how.zero, planner.here).write()
    return submit(order, missing, store, wanted), len(missing)

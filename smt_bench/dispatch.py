"""How a sweep's runs are carried out: in this process, or in workers that share them through claims.

A worker is `python -m smt_bench work ORDER`: it reads what was asked for, plans the same runs again and sweeps them. It
knows nothing of the others but their claims, so that any of them may die.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from smt_bench import parallel, resources, stopping
from smt_bench.bars import print_to
from smt_bench.checkpoint import checkpoints
from smt_bench.cluster import Allocation, queued, submit
from smt_bench.execute import Watcher, execute, measure, unwatched
from smt_bench.parts import needs_data
from smt_bench.planning import Planner, Request
from smt_bench.resume import Keeper, Pace
from smt_bench.runs import Question, Run
from smt_bench.store import FINISHED, Record, Store, write_text
from smt_bench.sweep import POLL, Broken, Interrupted, Perform, sweep
from smt_bench.zero import Zero

IDLE = "idle"  # what rank 0 says while it waits for runs of other processes


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


def performer(module: Any, planner: Planner, zero: Zero | None) -> Perform:
    """What answers one question of an experiment."""

    def answer(question: Any, watch: Watcher, _keeper: Keeper) -> Record:
        if needs_data(module):
            return measure(question, lambda asked, watch: module.measure(asked, watch, planner.inputs()), watch)
        return measure(question, module.measure, watch)

    def perform(question: Any, watch: Watcher, keeper: Keeper) -> Record:
        inputs = planner.inputs()
        spread = inputs.device_map if parallel.size() == 1 else None  # else every process holds the model
        return execute(question, replace(inputs, watch=watch, keeper=keeper, device_map=spread, zero=zero))

    return answer if hasattr(module, "measure") else perform


def carry_out(
    module: Any, planner: Planner, runs: Sequence[Question], store: Store, how: How, console: Console
) -> Counter[str]:
    """Does the runs that have no record, in the way asked for; how many ended how.

    Raises:
        Interrupted: asked to leave.
        ValueError: there are not enough GPUs.
    """
    from smt_bench.workers import slots, supervise

    if parallel.launched() and (how.jobs, how.processes) != (1, 1):
        raise ValueError("--jobs and --processes start processes, and a launcher has started some: leave them out")
    if hasattr(module, "measure") and (how.jobs, how.gpus_per_run, how.processes) != (1, None, 1):
        raise ValueError(f"{module.NAME} measures this machine: leave --jobs, --gpus-per-run and --processes out")
    parallel.join()
    processes = max(how.processes, parallel.size())
    check_shares(runs, processes)
    places = slots(how.jobs, how.gpus_per_run, how.processes, os.environ)
    stop = stopping.Stop()
    with stop.installed():
        if len(places) == how.processes == 1 and not places[0]:
            return sweep_together(runs, store, performer(module, planner, how.zero), console, stop, how.pace)
        order = Order(module.NAME, planner.request, store.root.absolute(), how.pace, how.zero).write()
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


def sweep_together(
    runs: Sequence[Question], store: Store, perform: Perform, console: Console, stop: stopping.Stop, pace: Pace
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


def _follow(runs: Sequence[Question], store: Store, perform: Perform, stop: stopping.Stop, pace: Pace) -> None:
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
    print(f"error: {why}", file=sys.stderr, flush=True)
    os._exit(1)


@dataclass(frozen=True)
class Order:
    """What workers and tasks of a cluster read: what was asked for, and all that plans and does it the same way there.

    Attributes:
        experiment: one that has runs of its own.
        request: what a user asked for.
        results: the results folder, absolute.
        pace: of checkpoints.
        zero: how dense phases are sharded.
        here: the machine that was planned for; None: whichever reads this.
    """

    experiment: str
    request: Request
    results: Path
    pace: Pace
    zero: Zero | None = None
    here: resources.Machine | None = None

    def write(self) -> Path:
        """As JSON below the results folder, under a name of its own."""
        path = self.results / "logs" / f"order-{uuid.uuid4().hex[:12]}.json"
        write_text(path, json.dumps({**asdict(self), "results": str(self.results)}, indent=1) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Order:
        """The inverse of `write`.

        Raises:
            ValueError: not an order.
        """
        try:
            o = json.loads(path.read_text(encoding="utf-8"))
            here = o["here"] and resources.Machine(**{**o["here"], "gpus": tuple(o["here"]["gpus"])})
            request, pace = Request.from_dict(o["request"]), Pace(**o["pace"])
            return cls(o["experiment"], request, Path(o["results"]), pace, o["zero"] and Zero(**o["zero"]), here)
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"order {path} is not readable ({type(error).__name__}): it is written by `run`") from None

    def plan(self) -> tuple[Any, Planner, list[Question]]:
        """The experiment, its planner, ready, and the runs."""
        import experiments

        module: Any = experiments.find(self.experiment)
        planner = Planner(self.request, self.here or resources.machine())
        if needs_data(module):
            planner.open()
        return module, planner, [run for run, _ in module.runs(planner)]


def work(path: Path, only: str | None = None) -> None:
    """A worker's whole life.

    Args:
        path: its order.
        only: key of the one run to do; None: all.

    Raises:
        Interrupted: asked to leave.
        ValueError: the order is not readable, or cannot be planned here.
    """
    stop = stopping.Stop()
    with stop.installed():
        try:
            order = Order.read(path)
            parallel.join()
            module, planner, runs = order.plan()
            if only is not None:
                runs = [run for run in runs if run.key == only]
            perform = performer(module, planner, order.zero)
            sweep_together(runs, Store(order.results), perform, print_to(), stop, order.pace)
        except stopping.Stopped:  # before there was a run to save
            raise Interrupted("nothing was under way") from None
    parallel.leave()


def submit_missing(
    module: Any, planner: Planner, runs: Sequence[Question], store: Store, how: How, wanted: Allocation
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
    order = Order(module.NAME, planner.request, store.root.absolute(), how.pace, how.zero, planner.here).write()
    return submit(order, missing, store, wanted), len(missing)

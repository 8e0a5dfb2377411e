"""How a sweep's runs are carried out: in this process, or in workers that share them through claims.

A worker is `python -m smt_bench work ORDER`: it reads what was asked for, plans the same runs again and sweeps them. It
knows nothing of the others but their claims, so that any of them may die.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from smt_bench import parallel, resources, stopping
from smt_bench.execute import Watcher, execute, measure, unwatched
from smt_bench.planning import Planner, Request
from smt_bench.resume import Keeper, Pace
from smt_bench.runs import Question, Run
from smt_bench.store import FINISHED, Record, Store, write_text
from smt_bench.sweep import POLL, Broken, Perform, checkpoints, print_to, retry, sweep

IDLE = "idle"  # what rank 0 says while it waits for runs of other processes


@dataclass(frozen=True)
class How:
    """What a user chose about carrying out; no result depends on it.

    Attributes:
        jobs: runs at the same time on this machine.
        gpus_per_run: GPUs of each; None: shared out evenly.
        processes: that each run is spread over, data parallel.
        pace: of checkpoints.
        retry: do failed runs again.
    """

    jobs: int = 1
    gpus_per_run: int | None = None
    processes: int = 1
    pace: Pace = field(default_factory=Pace)
    retry: bool = False

    def __post_init__(self) -> None:
        counts = {"--jobs": self.jobs, "--gpus-per-run": self.gpus_per_run, "--processes": self.processes}
        for option, value in counts.items():
            if value is not None and value < 1:
                raise ValueError(f"{option} {value}: choose a positive whole number")
        if self.pace.steps is not None and self.pace.steps < 1:
            raise ValueError(f"--checkpoint-steps {self.pace.steps}: choose a positive whole number")
        if not self.pace.seconds > 0:
            raise ValueError(f"--checkpoint-minutes {self.pace.seconds / 60:g}: choose a number above 0")


def performer(module: Any, planner: Planner) -> Perform:
    """What answers one question of an experiment."""
    if hasattr(module, "measure"):
        return lambda question, watch, _keeper: measure(question, module.measure, watch)

    def perform(question: Any, watch: Watcher, keeper: Keeper) -> Record:
        inputs = planner.inputs()
        spread = inputs.device_map if parallel.size() == 1 else None  # else every process holds the model
        return execute(question, replace(inputs, watch=watch, keeper=keeper, device_map=spread))

    return perform


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
    parallel.join()
    check_shares(runs, max(how.processes, parallel.size()))
    places = slots(how.jobs, how.gpus_per_run, how.processes, os.environ)
    if how.retry and parallel.rank() == 0:
        retry(runs, store)
    stop = stopping.Stop()
    with stop.installed():
        if len(places) == how.processes == 1 and not places[0]:
            return sweep_together(runs, store, performer(module, planner), console, stop, how.pace)
        order = write_order(planner.request, store, how.pace)
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
    except Broken as error:
        _leave_broken(str(error))
    parallel.broadcast(None)
    return counts


def _follow(runs: Sequence[Question], store: Store, perform: Perform, stop: stopping.Stop, pace: Pace) -> None:
    by_key = {run.key: run for run in runs}
    while (key := parallel.broadcast(None)) is not None:
        if key == IDLE:
            continue
        record = perform(by_key[key], unwatched, Keeper(checkpoints(store, key), pace, stop))
        if record["status"] not in FINISHED:
            store.write(record)  # rank 0 may only see that this process is gone
            _leave_broken(f"rank {parallel.rank()}: {record['message']}\n" + "\n".join(record["traceback"]))


def _leave_broken(why: str) -> NoReturn:
    """Ends this process alone: whoever started all of them ends the others, which may wait for this one."""
    print(f"error: {why}", file=sys.stderr, flush=True)
    os._exit(1)


def write_order(request: Request, store: Store, pace: Pace) -> Path:
    """What the workers of a sweep read: what was asked for, as JSON."""
    values = {"request": asdict(request), "results": str(store.root.absolute()), "pace": asdict(pace)}
    path = store.root / "logs" / f"order-{os.getpid()}.json"
    write_text(path, json.dumps(values, indent=1) + "\n")
    return path


def work(path: Path) -> None:
    """A worker's whole life.

    Raises:
        Interrupted: asked to leave.
        ValueError: the order is not readable, or cannot be planned here.
    """
    import experiments

    try:
        order = json.loads(path.read_text(encoding="utf-8"))
        request, pace, store = Request.from_dict(order["request"]), Pace(**order["pace"]), Store(Path(order["results"]))
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"order {path} is not readable ({type(error).__name__}): it is written by `run`") from None
    parallel.join()
    module: Any = experiments.find(request.experiment)
    planner = Planner(request, resources.machine())
    if not hasattr(module, "measure"):
        planner.open()
    runs = [run for run, _ in module.runs(planner)]
    stop = stopping.Stop()
    with stop.installed():
        sweep_together(runs, store, performer(module, planner), print_to(), stop, pace)

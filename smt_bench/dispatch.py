"""How a sweep's runs are carried out: in this process, or in workers that share them through claims.

A worker is `python -m smt_bench work ORDER`: it reads what was asked for, plans the same runs again and sweeps them. It
knows nothing of the others but their claims, so that any of them may die.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from smt_bench import resources, stopping
from smt_bench.execute import Watcher, execute, measure
from smt_bench.planning import Planner, Request
from smt_bench.resume import Keeper, Pace
from smt_bench.runs import Question
from smt_bench.store import Record, Store, write_text
from smt_bench.sweep import Perform, print_to, retry, sweep


@dataclass(frozen=True)
class How:
    """What a user chose about carrying out; no result depends on it.

    Attributes:
        jobs: runs at the same time on this machine.
        gpus_per_run: GPUs of each; None: shared out evenly.
        pace: of checkpoints.
        retry: do failed runs again.
    """

    jobs: int = 1
    gpus_per_run: int | None = None
    pace: Pace = field(default_factory=Pace)
    retry: bool = False

    def __post_init__(self) -> None:
        for option, value in {"--jobs": self.jobs, "--gpus-per-run": self.gpus_per_run}.items():
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
        return execute(question, replace(planner.inputs(), watch=watch, keeper=keeper))

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

    places = slots(how.jobs, how.gpus_per_run, os.environ)
    if how.retry:
        retry(runs, store)
    stop = stopping.Stop()
    with stop.installed():
        if len(places) == 1 and not places[0]:
            return sweep(runs, store, performer(module, planner), console, stop, how.pace)
        order = write_order(planner.request, store, how.pace)
        try:
            return supervise(order, places, runs, store, console, stop)
        finally:
            order.unlink(missing_ok=True)


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
    module: Any = experiments.find(request.experiment)
    planner = Planner(request, resources.machine())
    if not hasattr(module, "measure"):
        planner.open()
    runs = [run for run, _ in module.runs(planner)]
    stop = stopping.Stop()
    with stop.installed():
        sweep(runs, store, performer(module, planner), print_to(), stop, pace)

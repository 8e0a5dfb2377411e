"""The hidden command `work`: a worker of a sweep, from the order that `run` wrote."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smt_bench.execute import execute
from smt_bench.machine import determinism, facts, fits, parallel, signals
from smt_bench.machine.files import write_text
from smt_bench.machine.spread import Spread
from smt_bench.machine.watch import Watcher
from smt_bench.questions.experiment import Experiment, MeasuringExperiment, TrainingExperiment
from smt_bench.questions.parts import take_winners
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.questions.tuning import Tuning
from smt_bench.records.outcome import measure
from smt_bench.records.rows import Rows
from smt_bench.records.runs import Question
from smt_bench.records.store import Record, Store
from smt_bench.sweep.loop import Interrupted, Perform
from smt_bench.sweep.progress import print_to
from smt_bench.sweep.together import sweep_together
from smt_bench.sweep.tracking import Tracked
from smt_bench.training.resume import Keeper, Pace


def performer(
    experiment: Experiment, planner: Planner, spread: Spread, results: Path, track: str | None = None
) -> Perform:
    """What answers one question of an experiment in this process, which may be one of several on the same run."""
    keep = results / "adapters" if planner.request.keep or experiment.keeps else None
    if isinstance(experiment, MeasuringExperiment):

        def answer(question: Any, watch: Watcher, keeper: Keeper) -> Record:
            inputs = planner.inputs() if experiment.needs_inputs else planner.measured()
            if keeper.files is not None:
                made = {"made": facts.describe(), "numerics": facts.numerics()}
                inputs = replace(inputs, rows=Rows(keeper.files.folder / "rows.json", made))
            return measure(question, lambda asked, watch: experiment.measure(asked, watch, inputs), watch)

        return answer

    def perform(question: Any, watch: Watcher, keeper: Keeper) -> Record:
        inputs = planner.inputs(question)
        layers = inputs.device_map if spread.processes == 1 else None  # else every process holds the model
        inputs = replace(inputs, watch=watch, keeper=keeper, device_map=layers, spread=spread, keep=keep)
        if track is None:
            return execute(question, inputs)
        tracked = Tracked(track, question, results)
        record = execute(question, replace(inputs, on_step=tracked.step))
        tracked.end(record)
        return record

    return perform


@dataclass(frozen=True)
class Order:
    """What workers and tasks of a cluster read: what was asked for, and all that plans and does it the same way there.

    Attributes:
        experiment: its name; the request names the bundle where it is one of several.
        request: what a user asked for.
        results: the results folder, absolute.
        pace: of checkpoints.
        spread: of each run.
        here: the machine that was planned for; None: whichever reads this.
        trials: where the runs are a tuning's: of each method.
        deterministic: see `machine.determinism`.
        track: which tracker is told of the runs; None: none.
    """

    experiment: str
    request: Request
    results: Path
    pace: Pace
    spread: Spread
    here: fits.Machine | None = None
    trials: int | None = None
    deterministic: bool = False
    track: str | None = None

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
            here = o["here"] and fits.Machine(tuple(o["here"]["gpus"]), o["here"]["memory"])
            request, pace, spread = Request.from_dict(o["request"]), Pace(**o["pace"]), Spread.from_dict(o["spread"])
            trials, deterministic, track = o.get("trials"), o.get("deterministic", False), o.get("track")
            return cls(o["experiment"], request, Path(o["results"]), pace, spread, here, trials, deterministic, track)
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"order {path} is not readable ({type(error).__name__}): it is written by `run`") from None

    def plan(self) -> tuple[Experiment, Planner, list[Question]]:
        """The experiment, its planner, ready, and the runs."""
        from smt_bench import experiments

        experiment, store = experiments.find(self.experiment), Store(self.results)
        if self.trials is not None:
            assert isinstance(experiment, TrainingExperiment)
            experiment = Tuning(experiment, store, self.trials)
        planner = Planner(self.request, self.here or fits.here(), shared=self.experiment != self.request.experiment)
        if experiment.needs_inputs:
            planner.open()
        if self.request.tuned:
            take_winners(experiment, planner, store)
        return experiment, planner, [run for run, _ in experiment.runs(planner)]


def work(path: Path, only: str | None = None) -> None:
    """A worker's whole life.

    Args:
        path: its order.
        only: key of the one run to do; None: all.

    Raises:
        Interrupted: asked to leave.
        ValueError: the order is not readable, or cannot be planned here.
    """
    stop = signals.Stop()
    with stop.installed():
        try:
            order = Order.read(path)
            if order.deterministic:
                determinism.switch_on()
            parallel.join()
            experiment, planner, runs = order.plan()
            if only is not None:
                runs = [run for run in runs if run.key == only]
            perform = performer(experiment, planner, order.spread, order.results, order.track)
            sweep_together(runs, Store(order.results), perform, print_to(), stop, order.pace)
        except signals.Stopped:  # before there was a run to save
            raise Interrupted("nothing was under way") from None
    parallel.leave()

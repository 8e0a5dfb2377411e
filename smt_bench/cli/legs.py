"""How runs are carried out, from options, and one experiment's runs with its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from smt_bench.cli.draw import render
from smt_bench.cli.options import (
    say,
    show,
)

if TYPE_CHECKING:
    from smt_bench.questions.parts import Leg
    from smt_bench.records.index import Index
    from smt_bench.records.store import Store
    from smt_bench.sweep.carry_out import How
    from smt_bench.training.resume import Pace


def how_of(
    jobs: int,
    gpus_per_run: int | None,
    processes: int | None,
    nodes: int,
    zero: int,
    offload: bool,
    pace: Pace,
    cluster: str | None,
    partition: str | None,
    time_limit: str | None,
) -> How:
    """The options on carrying out as one value, which refuses what does not go together."""
    from smt_bench.machine import parallel
    from smt_bench.machine.spread import Spread
    from smt_bench.sweep.carry_out import How
    from smt_bench.sweep.slurm import Allocation

    if cluster not in (None, "slurm"):
        raise ValueError(f"--cluster {cluster}: the choice is slurm")
    if cluster is None and (partition or time_limit or nodes != 1):
        raise ValueError("--partition, --time and --nodes go with --cluster slurm")
    if launched := parallel.launched():
        if cluster or processes is not None or gpus_per_run is not None or jobs != 1:
            raise ValueError(
                f"a launcher has started {launched} processes: leave --jobs, --gpus-per-run, --processes and --cluster out"
            )
        spread = Spread(launched, nodes=parallel.launched_nodes(), zero=zero, offload=offload)
    else:
        default = (gpus_per_run or nodes) if cluster else 1
        spread = Spread(default if processes is None else processes, gpus_per_run, nodes, zero, offload)
    wanted = Allocation(partition, time_limit or Allocation.time) if cluster else None
    return How(spread, jobs, pace, wanted)


def announce(part: Leg, store: Store, writes: bool = True) -> Index:
    """Lists one experiment's runs and writes down what they are to show, before any run; or only says it; the index."""
    from smt_bench.machine import parallel
    from smt_bench.questions import analysis
    from smt_bench.records.index import Index

    runs = [run for run, _ in part.planned]
    index = Index.read(part.place)
    before, listed = index.latest, index.settings.get(runs[0].setting, [])
    if writes:
        index.add(runs, part.planner.left_out)
    if parallel.rank() > 0:
        return index
    if writes and before not in (None, runs[0].setting):
        say(
            f"note: the tables in {part.place} were of other data or settings; no run is lost: the earlier command makes them "
            "again"
        )
    if told := analysis.declare(part.experiment, runs, part.place, store, listed, writes, lambda: _design(part, store)):
        say(told)
    return index


def _design(part: Leg, store: Store) -> dict[str, Any]:
    """What stands in an analysis beside its claims: whose rates these are, what judges first, and what can be told."""
    from smt_bench.plan.power import before
    from smt_bench.questions.analysis import found_by
    from smt_bench.questions.experiment import TrainingExperiment
    from smt_bench.records.runs import Run

    assert isinstance(part.experiment, TrainingExperiment)
    runs = [run for run, _ in part.planned]
    named = {run.method.name for run in runs if isinstance(run, Run)}
    # Beside tuned runs those of a preset may be older ones, which name its tuning.
    rates: dict[str, Any] = {} if part.planner.request.tuned else found_by(map(part.planner.rates_of, named))
    return {**rates, **part.planner.outcome, "power": before(part.experiment, part.planner, store.root)}


def do(part: Leg, index: Index, store: Store, how: How, several: bool) -> int:
    """One experiment's runs, here or on a cluster, and its tables; how many runs failed."""
    from smt_bench.cli.work import Order, performer
    from smt_bench.machine import parallel
    from smt_bench.machine.spread import ALONE
    from smt_bench.questions.experiment import MeasuringExperiment
    from smt_bench.report.table import in_short
    from smt_bench.sweep.carry_out import How, carry_out, submit_missing
    from smt_bench.sweep.loop import Interrupted
    from smt_bench.sweep.progress import print_to

    experiment, planner, place = part.experiment, part.planner, part.place
    runs = [run for run, _ in part.planned]
    if several:
        say(f"{experiment.name} ({planner.request.family})")
    if isinstance(experiment, MeasuringExperiment):
        if several and how.cluster:
            say(f"note: {experiment.name} is measured on one machine: left out, `run {experiment.name}` there does it")
            return 0
        if several:
            how = How(pace=how.pace, deterministic=how.deterministic)  # in this process, with all the machine has
        elif not how.cluster and not parallel.launched() and (how.jobs, how.spread) != (1, ALONE):
            raise ValueError(
                f"{experiment.name} measures this machine: leave --jobs, --gpus-per-run and --processes out"
            )
    planned_for = planner.here if how.cluster else None
    root = store.root.absolute()
    order = Order(
        experiment.name, planner.request, root, how.pace, how.spread, planned_for,
        deterministic=how.deterministic, track=how.track,
    )  # fmt: skip
    if how.cluster:
        job, count = submit_missing(runs, store, how, order.write)
        say(f"submitted {count} runs as job {job}: see `status`, `cancel`" if job else "nothing to submit")
        return 0
    try:
        counts = carry_out(
            runs, store, how, performer(experiment, planner, how.spread, store.root, how.track), order.write, print_to()
        )
    except Interrupted as stop:
        if parallel.rank() == 0:
            render(experiment, store, index.again(), place, planner.entry.name)
            say(f"interrupted: {stop}; the same command goes on from there")
        raise typer.Exit(130) from None
    if parallel.rank() > 0:
        return 0
    files = render(experiment, store, index.again(), place, planner.entry.name)
    say(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    if files:
        show(in_short(files[0].read_text(encoding="utf-8"), files[0].name))
        say("wrote " + ", ".join(str(f) for f in files))
    return counts["failed"] + counts["out_of_memory"]

"""The command line's `tune`: the same search of rates and settings for every method of an experiment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smt_bench.cli import options
from smt_bench.cli.legs import how_of
from smt_bench.cli.options import say, show
from smt_bench.cli.values import check_select, check_track, numbers, own_recipe, setting, several
from smt_bench.models import registry

if TYPE_CHECKING:
    from smt_bench.questions.parts import Leg
    from smt_bench.questions.request import Request
    from smt_bench.records.store import Store
    from smt_bench.sweep.carry_out import How

MOST_TRIALS = 10_000


def tune(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment, see `list`.")],
    model: options.Model = registry.DEFAULT,
    trials: Annotated[int, typer.Option(help="Trials of every method.")] = 24,
    data: options.Data = None,
    methods: options.Methods = None,
    fractions: Annotated[options.Many, typer.Option("--fraction", help="The trainable fraction in %.")] = None,
    tasks: options.Tasks = None,
    steps: options.Steps = None,
    limit: options.Limit = None,
    preset: options.Preset = None,
    protocol: options.Protocol = None,
    settings: options.Settings = None,
    targets: options.Targets = None,
    recipe: options.Recipe = None,
    lr: options.Rates = None,
    weight_decay: options.Decays = None,
    micro_batch: options.MicroBatch = None,
    epochs: options.Epochs = None,
    cutoff: options.Cutoff = None,
    schedule: options.Schedule = None,
    lr_warmup: options.LrWarmup = None,
    heldout: options.Heldout = None,
    limit_heldout: options.LimitHeldout = None,
    batch_size: options.BatchSize = None,
    precision: options.Precision = None,
    base: options.Base = None,
    select: options.Select = None,
    select_every: options.SelectEvery = None,
    jobs: options.Jobs = 1,
    gpus_per_run: options.GpusPerRun = None,
    processes: options.Processes = None,
    zero: options.Zero = 0,
    offload: options.Offload = False,
    cluster: options.Cluster = None,
    partition: options.Partition = None,
    time_limit: options.TimeLimit = None,
    nodes: options.Nodes = 1,
    retry: options.Retry = None,
    checkpoint_steps: options.CheckpointSteps = None,
    checkpoint_minutes: options.CheckpointMinutes = 10.0,
    track: options.Track = None,
    results: options.Results = Path("results"),
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Searches rates and settings, as many trials for every method; `run --tuned` uses what it finds."""
    from smt_bench import experiments
    from smt_bench.cli.listing import print_runs, say_hours, say_of_data
    from smt_bench.machine import fits
    from smt_bench.questions.experiment import TrainingExperiment
    from smt_bench.questions.parts import plan_parts, union
    from smt_bench.questions.request import Request
    from smt_bench.questions.tuning import Tuning
    from smt_bench.records.store import Store
    from smt_bench.sweep.loop import set_failed_aside
    from smt_bench.training.resume import Pace

    if not 1 <= trials <= MOST_TRIALS:
        raise ValueError(f"--trials {trials}: choose a whole number from 1 to {MOST_TRIALS:,}")
    if as_json and not dry_run:
        raise ValueError("--json goes with --dry-run: records and tables are written as files")
    if retry not in (None, "failed"):
        raise ValueError(f"--retry {retry}: the choice is failed")
    inner = experiments.find(experiment)
    if not isinstance(inner, TrainingExperiment) or inner.tunes:
        raise ValueError(
            f"tune {experiment}: it has no rates that could be tuned: choose one that trains, e.g. plateau"
        )
    pace = Pace(checkpoint_steps, 60 * checkpoint_minutes)
    how = how_of(jobs, gpus_per_run, processes, nodes, zero, offload, pace, cluster, partition, time_limit)
    check_track(track)
    how = replace(how, track=track)
    check_select(select, zero)
    request = Request(
        experiment,
        model,
        data=data,
        methods=tuple(several(methods, "--methods")),
        fractions_pct=numbers(fractions, float, "--fraction"),
        tasks=tuple(several(tasks, "--tasks")),
        steps=steps,
        limit=limit,
        preset=preset,
        protocol=protocol,
        settings=tuple(setting(text) for text in settings or []),
        precision=precision,
        base=base,
        targets=tuple(several(targets, "--targets")),
        select=select,
        select_every=select_every,
        tunes=True,
        batch_size=batch_size,
        limit_heldout=limit_heldout,
        **own_recipe(recipe, lr, weight_decay, batch_size, micro_batch, epochs, cutoff, schedule, lr_warmup, heldout),
    )
    store = Store(results)
    here = fits.on_cluster(how.spread) if how.cluster else fits.here()
    parts = plan_parts([Tuning(inner, store, trials)], request, here, store, not dry_run, say, how.spread)
    say_of_data(parts)
    if dry_run:
        planned = union(parts)
        there = ((run.key, store.read(run.key)) for run, _ in planned)
        print_runs(planned, {key: record["status"] for key, record in there if record is not None}, as_json)
        if not as_json:
            say_hours(parts, store, jobs, "; a wider search and later seeds of the best, which follow, are not counted")
        return
    if retry:
        set_failed_aside([run for run, _ in union(parts)], store)
    for part in parts:
        _search(part, store, how, request, trials)


def _search(part: Leg, store: Store, how: How, request: Request, trials: int) -> None:
    """One tuning, stage by stage, and its tables."""
    from smt_bench.cli.work import Order, performer
    from smt_bench.machine import parallel
    from smt_bench.questions.tuned import conclude, declare
    from smt_bench.questions.tuning import Tuning
    from smt_bench.records.index import TUNING, Index
    from smt_bench.report.tuning.write import write
    from smt_bench.sweep.carry_out import carry_out, submit_missing
    from smt_bench.sweep.loop import Interrupted
    from smt_bench.sweep.progress import print_to

    tuning, planner, place = part.experiment, part.planner, part.place / TUNING
    assert isinstance(tuning, Tuning)
    search = tuning.search(planner)
    if not search.declared_split:
        raise ValueError("tune: no held-out examples can be set apart to choose by: hold out more")
    if parallel.rank() == 0:
        new = declare(place, search)
        say(
            f"tuning {search.hash}: {'declared' if new else 'goes on'}, {trials} trials of each of {len(search.methods)} methods"
        )
    order = Order(
        tuning.name, planner.request, store.root.absolute(), how.pace, how.spread, planner.here if how.cluster else None, trials,
        track=how.track,
    )  # fmt: skip
    while search.stage != "done":
        runs = [run for run, _ in search.planned.values()]
        if parallel.rank() == 0:
            Index.read(place).add(runs)
        if search.wider:
            say(f"a best trial lies at the edge: rates of all methods widened ({', '.join(search.wider)} end)")
        if how.cluster:
            job, count = submit_missing(runs, store, how, order.write)
            say(f"{search.stage}: " + (f"submitted {count} runs as job {job}" if job else "nothing to submit yet"))
            say("the same command goes on with the next stage once they are done")
            return
        try:
            counts = carry_out(
                runs, store, how, performer(tuning, planner, how.spread, store.root, how.track), order.write, print_to()
            )
        except Interrupted as stop:
            if parallel.rank() == 0:
                write(tuning.found(planner, tuning.search(planner)), place)
                say(f"interrupted: {stop}; the same command goes on from there")
            raise typer.Exit(130) from None
        if counts["failed"] + counts["out_of_memory"]:
            say(
                "`show KEY` says why a run failed; `--retry failed` does it again: the search goes on once every trial was run"
            )
            raise typer.Exit(1)
        search = tuning.search(planner)
    if parallel.rank() > 0:
        return
    conclude(place, search, {method: tuning.winner(search, method) for method in search.methods})
    files = write(tuning.found(planner, search), place)
    show(files[0].read_text(encoding="utf-8"))
    say("wrote " + ", ".join(str(f) for f in files))

"""The command line's `run`: plans an experiment's runs, does those that are missing, writes tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smt_bench.cli import options
from smt_bench.cli.legs import announce, do, how_of
from smt_bench.cli.options import say
from smt_bench.cli.values import check_select, check_track, numbers, own_recipe, setting, several
from smt_bench.models import registry

if TYPE_CHECKING:
    from smt_bench.records.runs import Question
    from smt_bench.records.store import Store


def run(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment, see `list`.")],
    model: options.Model = registry.DEFAULT,
    data: options.Data = None,
    methods: options.Methods = None,
    fractions: Annotated[options.Many, typer.Option(help="Trainable fractions in %, separated by commas.")] = None,
    seeds: Annotated[options.Many, typer.Option(help="Seeds, separated by commas.")] = None,
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
    select: options.Select = None,
    select_every: options.SelectEvery = None,
    vary: Annotated[
        str | None, typer.Option(help="data: a seed also decides what is held out and, on tiny, the facts.")
    ] = None,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="Beside the recipe's settings, those that `tune` found.")
    ] = False,
    batch_size: options.BatchSize = None,
    length: options.Length = None,
    layers: options.Layers = None,
    checkpointing: options.Checkpointing = None,
    precision: options.Precision = None,
    base: options.Base = None,
    optimizer_dtype: options.OptimizerDtype = None,
    jobs: options.Jobs = 1,
    gpus_per_run: options.GpusPerRun = None,
    processes: options.Processes = None,
    zero: options.Zero = 0,
    offload: options.Offload = False,
    cluster: options.Cluster = None,
    partition: options.Partition = None,
    time_limit: options.TimeLimit = None,
    nodes: options.Nodes = 1,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="On a GPU: repeats and resumed runs the same bit by bit; slower.")
    ] = False,
    allow_code: options.AllowCode = False,
    keep: Annotated[str | None, typer.Option(help="adapters: keep what each run trains, for `export`.")] = None,
    retry: options.Retry = None,
    checkpoint_steps: options.CheckpointSteps = None,
    checkpoint_minutes: options.CheckpointMinutes = 10.0,
    track: options.Track = None,
    forgetting: options.Forgetting = None,
    results: options.Results = Path("results"),
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Does the runs of an experiment that are missing, then writes its tables and figures."""
    from smt_bench import experiments
    from smt_bench.cli.listing import print_runs, say_hours, say_of_data, say_parts
    from smt_bench.machine import determinism, fits
    from smt_bench.questions.parts import plan_parts, union
    from smt_bench.questions.request import Request
    from smt_bench.records.store import Store
    from smt_bench.sweep.loop import set_failed_aside
    from smt_bench.training.resume import Pace

    if as_json and not dry_run:
        raise ValueError("--json goes with --dry-run: records and tables are written as files")
    if retry not in (None, "failed"):
        raise ValueError(f"--retry {retry}: the choice is failed")
    pace = Pace(checkpoint_steps, 60 * checkpoint_minutes)
    how = how_of(jobs, gpus_per_run, processes, nodes, zero, offload, pace, cluster, partition, time_limit)
    check_track(track)
    how = replace(how, deterministic=deterministic, track=track)
    if deterministic:
        determinism.switch_on()
    members = experiments.members(experiment)
    request = Request(
        experiment,
        model,
        data=data,
        methods=tuple(several(methods, "--methods")),
        fractions_pct=numbers(fractions, float, "--fractions"),
        seeds=numbers(seeds, int, "--seeds"),
        tasks=tuple(several(tasks, "--tasks")),
        steps=steps,
        limit=limit,
        preset=preset,
        protocol=protocol,
        settings=tuple(setting(text) for text in settings or []),
        keep=keep,
        precision=precision,
        targets=tuple(several(targets, "--targets")),
        select=select,
        select_every=select_every,
        vary=vary,
        tunes=all(member.tunes for member in members),
        tuned=tuned,
        allow_code=allow_code,
        batch_size=batch_size,
        length=length,
        layers=layers,
        checkpointing=checkpointing,
        optimizer_dtype=optimizer_dtype,
        base=base,
        forgetting=forgetting,
        limit_heldout=limit_heldout,
        **own_recipe(recipe, lr, weight_decay, batch_size, micro_batch, epochs, cutoff, schedule, lr_warmup, heldout),
    )
    check_select(select, zero)
    store = Store(results)
    here = fits.on_cluster(how.spread) if how.cluster else fits.here()
    parts = plan_parts(members, request, here, store, not dry_run, say, how.spread)
    say_of_data(parts)
    if dry_run:
        planned = union(parts)
        there = ((run.key, store.read(run.key)) for run, _ in planned)
        print_runs(planned, {key: record["status"] for key, record in there if record is not None}, as_json)
        if not as_json:
            say_parts(parts, store)
            for part in parts:
                announce(part, store, writes=False)
            say_hours(parts, store, jobs)
        return
    if keep:
        _say_not_kept([run.key for run, capacity in union(parts) if capacity and capacity.trainable], store)
    runs = [run for run, _ in union(parts)]
    _check_kept(runs, store)
    indices = [announce(part, store) for part in parts]
    if retry:  # after what was seen has been written down: failed runs were seen too
        set_failed_aside(runs, store)
        _check_kept(runs, store)
    lost = sum(do(part, index, store, how, len(parts) > 1) for part, index in zip(parts, indices))
    if lost:
        say("`show KEY` says why a run failed; `--retry failed` does it again")
        raise typer.Exit(1)


def _say_not_kept(keys: list[str], store: Store) -> None:
    """Names runs that are finished, so that they are not done again, and whose adapters are not there."""
    there = [key for key in keys if store.path(key).exists() and not (store.root / "adapters" / key).is_dir()]
    if there:
        say(
            f"warning: {len(there)} of these runs are finished and kept no adapter (the first: {there[0]}): they are not done "
            "again here; choose another --results for that"
        )


def _check_kept(runs: Sequence[Question], store: Store) -> None:
    """Refuses runs that are made of finished ones whose adapters are not there.

    Raises:
        ValueError: one of them.
    """
    for run in runs:
        for part in getattr(run, "parts", ()) if store.read(run.key) is None else ():
            if store.read(part) is not None and not (store.root / "adapters" / part).is_dir():
                raise ValueError(
                    f"run {part} is finished and its adapter is not kept, which {run.key} is made of: choose "
                    "another --results"
                )

"""The command line's `run`: plans an experiment's runs, does those that are missing, writes tables and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smt_bench.cli.draw import render
from smt_bench.cli.options import Json, Many, Model, Results, numbers, say, setting, several
from smt_bench.data.datasets import DataSet
from smt_bench.evidence.words import task_title
from smt_bench.records.store import Store

if TYPE_CHECKING:
    from smt_bench.methods.base import Capacity
    from smt_bench.questions.parts import Leg
    from smt_bench.records.store import Store
    from smt_bench.sweep.carry_out import How
    from smt_bench.sweep.slurm import Allocation


def run(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment, see `list`.")],
    model: Model = "tiny",
    data: Annotated[str | None, typer.Option(help="Folder in the LLM-Adapters layout.")] = None,
    methods: Annotated[Many, typer.Option(help="Methods, separated by commas.")] = None,
    fractions: Annotated[Many, typer.Option(help="Trainable fractions in %, separated by commas.")] = None,
    seeds: Annotated[Many, typer.Option(help="Seeds, separated by commas.")] = None,
    tasks: Annotated[Many, typer.Option(help="Test tasks, separated by commas; math tasks train on math.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps per run.")] = None,
    limit: Annotated[int | None, typer.Option(help="Test examples per task at most.")] = None,
    preset: Annotated[str | None, typer.Option(help="smoke: one fraction, few steps.")] = None,
    protocol: Annotated[str | None, typer.Option(help="likelihood or llm-adapters (generate and match).")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A method's setting, e.g. smt.block_size=64; repeatable.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at the same time; GPUs or cores are shared out.")] = 1,
    gpus_per_run: Annotated[int | None, typer.Option(help="GPUs of each run; default: all, divided by --jobs.")] = None,
    processes: Annotated[
        int | None, typer.Option(help="Processes of each run, data parallel; on a cluster one per GPU, else 1.")
    ] = None,
    zero: Annotated[int | None, typer.Option(help="2 or 3: dense phases through DeepSpeed ZeRO.")] = None,
    offload: Annotated[bool, typer.Option("--offload", help="Their optimizer state in main memory.")] = False,
    cluster: Annotated[str | None, typer.Option(help="slurm: submit the runs as a job array and leave.")] = None,
    partition: Annotated[str | None, typer.Option(help="Of the cluster.")] = None,
    time_limit: Annotated[
        str | None, typer.Option("--time", help="Of a job, HH:MM:SS; runs go on in the next.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Nodes of each run, on a cluster.")] = 1,
    retry: Annotated[str | None, typer.Option(help="failed: do runs again that failed or ran out of memory.")] = None,
    checkpoint_steps: Annotated[int | None, typer.Option(help="Save the state of training every N steps.")] = None,
    checkpoint_minutes: Annotated[float, typer.Option(help="Save it at least that often.")] = 10.0,
    results: Results = Path("results"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Does the runs of an experiment that are missing, then writes its tables and figures."""
    from smt_bench import experiments
    from smt_bench.cli.run import overlap_warning
    from smt_bench.machine import fits, parallel
    from smt_bench.questions.parts import needs_data, plan_parts, union
    from smt_bench.questions.request import Request
    from smt_bench.records.store import Store
    from smt_bench.sweep.carry_out import How
    from smt_bench.sweep.loop import set_failed_aside
    from smt_bench.sweep.slurm import Allocation
    from smt_bench.training.resume import Pace
    from smt_bench.training.zero import Zero

    if as_json and not dry_run:
        raise ValueError("--json goes with --dry-run: records and tables are written as files")
    if retry not in (None, "failed"):
        raise ValueError(f"--retry {retry}: the choice is failed")
    if offload and zero is None:
        raise ValueError("--offload goes with --zero 2 or --zero 3")
    if cluster not in (None, "slurm"):
        raise ValueError(f"--cluster {cluster}: the choice is slurm")
    if cluster is None and (partition or time_limit or nodes != 1):
        raise ValueError("--partition, --time and --nodes go with --cluster slurm")
    sharding = None if zero is None else Zero(zero, offload)
    how = How(
        jobs,
        gpus_per_run,
        1 if processes is None else processes,
        sharding,
        Pace(checkpoint_steps, 60 * checkpoint_minutes),
    )
    gpus = gpus_per_run or 0
    wanted = None
    if cluster:
        if jobs != 1:
            raise ValueError("--jobs goes with one machine: on a cluster every run is a task of its own")
        wanted = Allocation(
            partition, time_limit or "12:00:00", nodes, gpus, (gpus or nodes) if processes is None else processes
        )
    request = Request(
        experiment,
        model,
        data,
        tuple(several(methods)),
        numbers(fractions, float, "--fractions"),
        numbers(seeds, int, "--seeds"),
        tuple(several(tasks)),
        steps,
        limit,
        preset,
        protocol,
        tuple(setting(text) for text in settings or []),
    )
    store = Store(results)
    here = fits.node(gpus) if wanted else fits.here()
    spread = wanted.processes if wanted else max(how.processes, parallel.launched())
    if sharding is not None:
        sharding.check(spread)
    here = replace(here, processes=spread, stage=zero or 0, offload=offload)
    parts = plan_parts(experiments.members(experiment), request, here, store, not dry_run, say)
    if dry_run:
        planned = union(parts)
        there = ((run.key, store.read(run.key)) for run, _ in planned)
        _print_plan(planned, {key: record["status"] for key, record in there if record is not None}, as_json)
        return
    for planner in {id(p.planner): p.planner for p in parts if needs_data(p.module)}.values():
        for name in planner.data.missing:
            say(f"note: no test file for {name}: left out, averages name the tasks they cover")
        if planner.data.empty:
            say(f"note: training set {planner.data.train_source}: {planner.data.empty:,} without a response left out")
        if overlap := overlap_warning(planner.data):
            say(f"warning: {overlap}")
    if retry:
        set_failed_aside([run for run, _ in union(parts)], store)
    lost = sum(_do(part, store, how, wanted, len(parts) > 1) for part in parts)
    if lost:
        say("`show KEY` says why a run failed; `--retry failed` does it again")
        raise typer.Exit(1)


def _do(part: Leg, store: Store, how: How, wanted: Allocation | None, several: bool) -> int:
    """One experiment's runs, here or on a cluster, and its tables; how many runs failed."""
    from smt_bench.machine import parallel
    from smt_bench.records.index import Index
    from smt_bench.sweep.carry_out import How, carry_out, submit_missing
    from smt_bench.sweep.loop import Interrupted
    from smt_bench.sweep.progress import print_to

    module, planner, place = part.module, part.planner, part.place
    runs = [run for run, _ in part.planned]
    index = Index.read(place)
    index.add(runs)
    if several:
        say(f"{module.NAME} ({planner.request.family})")
    if several and hasattr(module, "measure"):
        if wanted:
            say(f"note: {module.NAME} is measured on one machine: left out, `run {module.NAME}` there does it")
            return 0
        how = How(pace=how.pace)  # in this process, with all the machine has
    if wanted:
        job, count = submit_missing(module, planner, runs, store, how, wanted)
        say(f"submitted {count} runs as job {job}: see `status`, `cancel`" if job else "nothing to submit")
        return 0
    try:
        counts = carry_out(module, planner, runs, store, how, print_to())
    except Interrupted as stop:
        if parallel.rank() == 0:
            render(module, store, index.again(), place, planner.entry.name)
            say(f"interrupted: {stop}; the same command goes on from there")
        raise typer.Exit(130) from None
    if parallel.rank() > 0:
        return 0
    files = render(module, store, index.again(), place, planner.entry.name)
    say(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    if files:
        print(files[0].read_text(encoding="utf-8"))
        say("wrote " + ", ".join(str(f) for f in files))
    return counts["failed"] + counts["out_of_memory"]


def _print_plan(planned: Sequence[tuple[Any, Capacity | None]], statuses: dict[str, str], as_json: bool) -> None:
    from smt_bench.records.index import varied

    rows: list[dict[str, Any]] = []
    settings = varied([run for run, _ in planned])
    for run, capacity in planned:
        status = statuses.get(run.key, "missing")
        if capacity is None:
            rows.append({"key": run.key, "status": status, **run.to_dict()})
            if not as_json:
                print(f"{run.key}  {status:<8} {run.kind} {run.model.name} seed {run.seed}  {json.dumps(run.settings)}")
            continue
        fraction = run.method.fraction
        row = {
            "key": run.key,
            "model": run.model.name,
            "method": run.method.name,
            "fraction_pct": None if fraction is None else round(fraction * 100, 10),
            "seed": run.seed,
            "status": status,
            "capacity_unit": capacity.unit,
            "capacity": capacity.units,
            "trainable": capacity.trainable,
            "trainable_pct": round(100 * capacity.fraction, 6),
            "lr": run.train.lr,
            "steps": run.train.steps,
            "tasks": list(run.evaluation.tasks),
            "settings": settings[run.key],
        }
        rows.append(row)
        if not as_json:
            asked = "" if fraction is None else f"{100 * fraction:g} %"
            print(
                f"{run.key}  {status:<8} {run.method.name:<6} {asked:>7}  seed {run.seed}  "
                f"{capacity.units:,} {capacity.unit} = {capacity.trainable:,} numbers ({row['trainable_pct']:.3f} %)  "
                f"lr {run.train.lr:g}  {run.train.steps} steps"
                + "".join(f"  {name}={json.dumps(value)}" for name, value in settings[run.key].items())
            )
    if as_json:
        print(json.dumps(rows, indent=1))


def overlap_warning(data: DataSet) -> str | None:
    """One line on test questions that are also trained on; None where there are none."""
    found = [f"{task_title(t)} {n:,} of {len(data.tests[t]):,}" for t, n in data.overlap.items() if n]
    if not found:
        return None
    return f"training set {data.train_source} holds test questions ({', '.join(found)}): marked in the tables"

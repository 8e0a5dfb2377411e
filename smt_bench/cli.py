"""The command line: `run`, `plan`, `status`, `cancel`, `list`, `show`, `table`, `figure`, `fetch`, `audit`.

Bad input is one line on standard error (what, value, remedy) and exit code 2; an interrupted sweep ends with 130, one with
failed runs with 1. Heavy libraries are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smt_bench.cli_audit import audit
from smt_bench.plan.command import plan

if TYPE_CHECKING:
    from methods.base import Capacity

app = typer.Typer(
    help="Re-runs the tables and figures of the SMT and SpIEL papers, on any hardware.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(audit, name="audit")

Results = Annotated[Path, typer.Option("--results", help="Folder for records, tables and figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Model = Annotated[str, typer.Option("--model", help="Registered model, Hugging Face id or local folder.")]
Many = list[str] | None


def _list(values: Many) -> list[str]:
    """Options that take several values: repeated, or separated by commas."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]


def _numbers(values: Many, kind: type, option: str) -> tuple[Any, ...]:
    found = []
    for text in _list(values):
        try:
            found.append(kind(text))
        except ValueError:
            what = "whole numbers" if kind is int else "numbers"
            raise ValueError(f"{option} {text!r}: choose {what}, separated by commas") from None
    return tuple(found)


def _setting(text: str) -> tuple[str, str, Any]:
    """`method.setting=value`; the value is JSON, or else plain text."""
    left, equals, value = text.partition("=")
    method, dot, setting = left.partition(".")
    if not (equals and dot and method and setting):
        raise ValueError(f"--set {text!r}: write METHOD.SETTING=VALUE, e.g. smt.block_size=64")
    try:
        return method, setting, json.loads(value)
    except ValueError:
        return method, setting, value


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@app.command()
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
    processes: Annotated[int, typer.Option(help="Processes that each run is spread over, data parallel.")] = 1,
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
    import experiments
    from smt_bench import parallel, resources
    from smt_bench.cluster import Allocation
    from smt_bench.dispatch import How, carry_out, submit_missing
    from smt_bench.parts import needs_data, plan_parts, union
    from smt_bench.planning import Request
    from smt_bench.resume import Pace
    from smt_bench.store import Store
    from smt_bench.sweep import Index, Interrupted, overlap_warning, print_to, set_failed_aside
    from smt_bench.zero import Zero

    if as_json and not dry_run:
        raise ValueError("--json goes with --dry-run: records and tables are written as files")
    if retry not in (None, "failed"):
        raise ValueError(f"--retry {retry}: the choice is failed")
    if offload and zero is None:
        raise ValueError("--offload goes with --zero 2 or --zero 3")
    sharding = None if zero is None else Zero(zero, offload)
    how = How(jobs, gpus_per_run, processes, sharding, Pace(checkpoint_steps, 60 * checkpoint_minutes))
    if cluster not in (None, "slurm"):
        raise ValueError(f"--cluster {cluster}: the choice is slurm")
    if cluster is None and (partition or time_limit or nodes != 1):
        raise ValueError("--partition, --time and --nodes go with --cluster slurm")
    gpus = gpus_per_run or 0
    wanted = cluster and Allocation(partition, time_limit or "12:00:00", nodes, gpus, max(processes, gpus))
    modules = experiments.parts(experiment)
    request = Request(
        experiment,
        model,
        data,
        tuple(_list(methods)),
        _numbers(fractions, float, "--fractions"),
        _numbers(seeds, int, "--seeds"),
        tuple(_list(tasks)),
        steps,
        limit,
        preset,
        protocol,
        tuple(_setting(text) for text in settings or []),
    )
    store = Store(results)
    here = resources.node(gpus) if wanted else resources.machine()
    parts = plan_parts(modules, request, here, store, not dry_run, _say)
    if dry_run:
        planned = union(parts)
        _print_plan(planned, {r["key"]: r["status"] for r in store.records([run.key for run, _ in planned])}, as_json)
        return
    console = print_to()
    for planner in {id(p.planner): p.planner for p in parts if needs_data(p.module)}.values():
        for name in planner.data.missing:
            _say(f"note: no test file for {name}: left out, averages name the tasks they cover")
        if overlap := overlap_warning(planner.data):
            _say(f"warning: {overlap}")
    if retry:
        set_failed_aside([run for run, _ in union(parts)], store)
    lost = 0
    for part in parts:
        module, planner, place = part.module, part.planner, part.place
        runs = [run for run, _ in part.planned]

        index = Index.read(place)
        index.add(runs)
        if len(parts) > 1:
            _say(f"{module.NAME} ({planner.request.family})")
        if wanted:
            job, count = submit_missing(module, planner, runs, store, how, wanted)
            _say(f"submitted {count} runs as job {job}: see `status`, `cancel`" if job else "nothing to submit")
            continue
        try:
            counts = carry_out(module, planner, runs, store, how, console)
            if parallel.rank() > 0:
                continue
        except Interrupted as stop:
            if parallel.rank() > 0:
                raise typer.Exit(130) from None
            _render(module, store, index, place, planner.entry.name)
            _say(f"interrupted: {stop}; the same command goes on from there")
            raise typer.Exit(130) from None
        files = _render(module, store, index, place, planner.entry.name)
        _say(", ".join(f"{count} {status}" for status, count in counts.items() if count))
        if files:
            print(files[0].read_text(encoding="utf-8"))
            _say("wrote " + ", ".join(str(f) for f in files))
        lost += counts["failed"] + counts["out_of_memory"]
    if lost:
        _say("`show KEY` says why a run failed; `--retry failed` does it again")
        raise typer.Exit(1)


def _print_plan(planned: Sequence[tuple[Any, Capacity | None]], statuses: dict[str, str], as_json: bool) -> None:
    from smt_bench.parts import varied

    rows: list[dict[str, Any]] = []
    settings = varied(planned)
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


def _render(module: Any, store: Any, index: Any, place: Path, model: str) -> list[Path]:
    records = store.records(index.keys)
    return module.render(records, place, model) if records else []


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="experiments, methods, models, runs or all.")] = "all",
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Shows experiments, methods and models with what they need, or the stored runs."""
    import experiments
    import methods
    from smt_bench import models
    from smt_bench.store import Store

    kinds = ("experiments", "methods", "models", "runs")
    if what not in (*kinds, "all"):
        raise ValueError(f"list {what!r}: choose from {', '.join(kinds)}, all")
    found: dict[str, list[dict[str, Any]]] = {}
    if what in ("experiments", "all"):
        found["experiments"] = [
            {"name": name, "reproduces": e.REPRODUCES, "needs": e.NEEDS}
            for name, e in experiments.all_experiments().items()
        ]
    if what in ("methods", "all"):
        found["methods"] = [
            {"name": name, "version": m.version, "what": m.summary, "settings": m.Config().to_dict()}
            for name, m in methods.all_methods().items()
        ]
    if what in ("models", "all"):
        found["models"] = [
            {"name": e.name, "hub_id": e.hub_id, "recipe": e.recipe, "needs": e.note} for e in models.REGISTRY.values()
        ]
    if what == "runs":
        found["runs"] = [
            {
                "key": r["key"],
                "status": r["status"],
                "model": r["run"]["model"]["name"],
                "method": r["run"].get("kind") or r["run"]["method"]["name"],
                "fraction_pct": None
                if (f := r["run"].get("method", {}).get("fraction")) is None
                else round(100 * f, 10),
                "seed": r["run"]["seed"],
            }
            for r in Store(results).records()
        ]
    if as_json:
        print(json.dumps(found if what == "all" else found[what], indent=1))
        return
    for kind, rows in found.items():
        print(kind)
        cells = [
            [str("" if v is None else v) for k, v in row.items() if k not in ("settings", "version")] for row in rows
        ]
        widths = [max(map(len, column)) for column in zip(*cells)]
        for row in cells:
            print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="Key of a run, or its first digits.")],
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Shows one record; --json prints all of it."""
    from smt_bench.store import Store

    record = Store(results).resolve(key)
    if not as_json and "kind" not in record["run"]:
        # The long per-step and per-example lists are for machines.
        record["training"] = {k: v for k, v in record.get("training", {}).items() if k == "tokens"} | {
            "first_loss": (record.get("training", {}).get("losses") or [None])[0],
            "last_loss": (record.get("training", {}).get("losses") or [None])[-1],
        }
        record.get("heldout", {}).pop("examples", None)
        record.get("method", {}).pop("blocks", None)
        for task in record.get("evaluation", {}).values():
            task.pop("examples", None)
    print(json.dumps(record, indent=1))


def _rendered(experiment: str, model: str, results: Path, endings: tuple[str, ...]) -> list[Path]:
    import experiments
    from smt_bench import models
    from smt_bench.store import Store
    from smt_bench.sweep import INDEX, Index, folder

    store = Store(results)
    name = models.find(model).name
    files: list[Path] = []
    for module in experiments.parts(experiment):
        for family in ("commonsense", "math"):
            place = folder(store, module.NAME, name, family)
            if not (place / INDEX).exists():
                continue
            store.check_writable(place)
            index = Index.read(place)
            files += [f for f in _render(module, store, index, place, name) if f.suffix in endings]
    if not files:
        raise ValueError(
            f"no runs of {experiment} on {name} in {results}: `run {experiment} --model {name}` makes them"
        )
    return files


@app.command()
def table(experiment: str, model: Model = "tiny", results: Results = Path("results")) -> None:
    """Writes an experiment's tables again from stored records, training nothing."""
    for path in _rendered(experiment, model, results, (".md", ".csv")):
        if path.suffix == ".md":
            print(path.read_text(encoding="utf-8"))
        _say(f"wrote {path}")


@app.command()
def figure(experiment: str, model: Model = "tiny", results: Results = Path("results")) -> None:
    """Draws an experiment's figures again from stored records, training nothing."""
    for path in _rendered(experiment, model, results, (".png", ".svg")):
        print(path)


@app.command()
def fetch(name: Annotated[str, typer.Argument(help="A model, or the data family commonsense or math.")]) -> None:
    """Brings weights or data onto this machine."""
    from smt_bench.data import MIXTURES
    from smt_bench.fetch import fetch_data, fetch_model

    print(fetch_data(name, _say) if name in MIXTURES else fetch_model(name, _say))


@app.command()
def status(results: Results = Path("results"), as_json: Json = False) -> None:
    """Shows what is done, running (where, how long still), failed and missing of the sweeps in a results folder."""
    from smt_bench.status import show_status

    show_status(results, as_json)


@app.command()
def cancel(results: Results = Path("results")) -> None:
    """Cancels the jobs of a results folder that SLURM still has."""
    from smt_bench.cluster import cancel as cancel_jobs
    from smt_bench.store import Store

    jobs = cancel_jobs(Store(results))
    _say(f"cancelled {', '.join(jobs)}" if jobs else "SLURM has none of this folder's runs")


@app.command(hidden=True)
def work(order: Path, only: Annotated[str | None, typer.Option()] = None) -> None:
    """One worker of a sweep."""
    from smt_bench.dispatch import work as sweep_order
    from smt_bench.stopping import EXIT_CODE
    from smt_bench.sweep import Interrupted

    try:
        sweep_order(order, only)
    except Interrupted:
        raise typer.Exit(EXIT_CODE) from None


app.command()(plan)


def main() -> None:
    """Entry point: turns expected errors into one line and an exit code."""
    from smt_bench.store import BenchWarning

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def show_warning(message: Any, category: type[Warning], *_: Any) -> None:
        if issubclass(category, BenchWarning):  # libraries' warnings are for developers
            _say(f"warning: {message}")

    warnings.showwarning = show_warning  # type: ignore[assignment]  # fewer names for the same arguments
    warnings.simplefilter("always", BenchWarning)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except ValueError as error:
        _say(f"error: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"error: {where}{error.strerror or error}: finished runs are kept; make room or choose another folder")
    except typer.Abort:
        _say("interrupted: finished runs are kept, the same command goes on")
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of the command line's own
            raise
        _say(f"error: {error.format_message()}: see --help")
    sys.exit(2)


if __name__ == "__main__":
    main()

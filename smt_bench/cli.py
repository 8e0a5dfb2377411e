"""The command line: `run`, `plan`, `status`, `cancel`, `list`, `show`, `table`, `figure`, `fetch`, `audit`.

Bad input is one line on standard error (what, value, remedy) and exit code 2; an interrupted sweep ends with 130, one with
failed runs with 1. Heavy libraries are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from smt_bench.cli_audit import audit
from smt_bench.cli_run import render, run
from smt_bench.options import Json, Model, Results, say
from smt_bench.plan.command import plan

app = typer.Typer(
    help="Re-runs the tables and figures of the SMT and SpIEL papers, on any hardware.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(plan)
app.add_typer(audit, name="audit")


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
    from smt_bench.index import INDEX, Index, folder
    from smt_bench.store import Store

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
            files += render(module, store, index, place, name)
    if not files:
        raise ValueError(
            f"no runs of {experiment} on {name} in {results}: `run {experiment} --model {name}` makes them"
        )
    wanted = [f for f in files if f.suffix in endings]
    if not wanted:
        raise ValueError(f"{experiment} draws no figure: see `table {experiment} --model {name}`")
    return wanted


@app.command()
def table(experiment: str, model: Model = "tiny", results: Results = Path("results")) -> None:
    """Writes an experiment's tables again from stored records, training nothing."""
    for path in _rendered(experiment, model, results, (".md", ".csv")):
        if path.suffix == ".md":
            print(path.read_text(encoding="utf-8"))
        say(f"wrote {path}")


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

    print(fetch_data(name, say) if name in MIXTURES else fetch_model(name, say))


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
    say(f"cancelled {', '.join(jobs)}" if jobs else "SLURM has none of this folder's runs")


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


def main() -> None:
    """Entry point: turns expected errors into one line and an exit code."""
    from smt_bench.store import BenchWarning

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def show_warning(message: Any, category: type[Warning], *_: Any) -> None:
        if issubclass(category, BenchWarning):  # libraries' warnings are for developers
            say(f"warning: {message}")

    warnings.showwarning = show_warning  # type: ignore[assignment]  # fewer names for the same arguments
    warnings.simplefilter("always", BenchWarning)
    # DeepSpeed's launcher says with an option of its own what it also says in the environment.
    asked = [word for word in sys.argv[1:] if not word.startswith("--local_rank=")]
    try:
        sys.exit(app(args=asked, standalone_mode=False) or 0)
    except ValueError as error:
        say(f"error: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: {where}{error.strerror or error}: finished runs are kept; make room or choose another folder")
    except typer.Abort:
        say("interrupted: finished runs are kept, the same command goes on")
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of the command line's own
            raise
        say(f"error: {error.format_message()}: see --help")
    sys.exit(2)


if __name__ == "__main__":
    main()

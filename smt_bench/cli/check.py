"""The command line's `check`: looks whether something is right, by trying it; exit code 1 where something is not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from smt_bench.cli.options import BatchSize, Json, Layers, Length, Many, say, several
from smt_bench.cli.options import show as show_text

check = typer.Typer(help="Looks whether something is right, by trying it.", rich_markup_mode=None, no_args_is_help=True)


@check.callback()
def _group() -> None:
    """Looks whether something is right, by trying it."""


@check.command("gpu")
def gpu_(
    device: Annotated[str, typer.Option(help="auto (a GPU), cuda, or cpu: a rehearsal with small sizes.")] = "auto",
    parts: Annotated[Many, typer.Option(help="rates, ways, methods, resume, cost; separated by commas.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Whose architecture the cost is measured of; default: llama-7b.")
    ] = None,
    layers: Layers = None,
    batch_size: BatchSize = None,
    length: Length = None,
    seconds: Annotated[float, typer.Option(help="After so many no further case of the cost begins.")] = 540.0,
    results: Annotated[Path, typer.Option("--results", help="The findings go to <results>/check.")] = Path("results"),
    as_json: Json = False,
) -> None:
    """Checks numbers, methods, resuming and cost on this machine's GPU; needs no weights, no data, no network."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts: repeatable products
    from smt_bench.checks.gpu import PARTS, check_gpu, device_of
    from smt_bench.records.files import check_writable

    check_writable(f"results folder {results}", "--results", results / "check")
    chosen = several(parts, "--parts") or list(PARTS)
    found = check_gpu(device_of(device), chosen, model, layers, batch_size, length, seconds, results, say)
    if as_json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        show_text(found.table().to_markdown())
    say(f"wrote {found.path}")
    if found.failed:
        raise typer.Exit(1)

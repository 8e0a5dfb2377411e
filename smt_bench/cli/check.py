"""The command group `check`: whether what is relied on can be relied on; exit code 1 where not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from smt_bench.cli.again import Key, Where, prepare, told
from smt_bench.cli.options import AllowCode, BatchSize, Data, Json, Layers, Length, Many, Results, say, show
from smt_bench.cli.values import check_results, several

check = typer.Typer(help="Checks what results rest on; exit code 1 where it does not hold.", no_args_is_help=True)


@check.callback()
def _group() -> None:
    """Keeps the commands named, however many there are."""


@check.command()
def record(
    key: Key, model: Where = None, data: Data = None, allow_code: AllowCode = False, results: Results = Path("results")
) -> None:
    """Asks a record's question again and says whether the answer is the same: losses, blocks, predictions, measured values."""
    from smt_bench.records.store import Store

    old = Store(check_results(results)).resolve(key)
    _, answer = prepare(old, model, data, results, allow_code)
    if not told(old, answer()):
        say("the record was not reproduced")
        raise typer.Exit(1)


@check.command()
def statistics(
    draws: Annotated[int, typer.Option(help="Simulated comparisons per design.")] = 3000,
    results: Results = Path("results"),
) -> None:
    """Simulates comparisons of known truth: coverage of the intervals, error rates and power of the verdicts."""
    from smt_bench.evidence import benchmark
    from smt_bench.records.files import check_writable
    from smt_bench.report.statistics import statistics_tables

    if draws < 100:
        raise ValueError(f"--draws {draws}: choose 100 or more, fewer say nothing about 5 %")
    check_writable(f"results folder {results}", "--results", results / "statistics")
    rows, families = benchmark.run(draws)
    for table, name in zip(statistics_tables(rows, families, draws), ("statistics", "families")):
        for path in table.write(results / "statistics", name):
            say(f"wrote {path}")
        show(table.to_markdown())
    if not all(row["ok"] for row in [*rows, *families]):
        say("some row is outside its bounds: see the last column")
        raise typer.Exit(1)


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
        show(found.table().to_markdown())
    say(f"wrote {found.path}")
    if found.failed:
        raise typer.Exit(1)

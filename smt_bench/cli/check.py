"""The command group `check`: whether what is relied on can be relied on; exit code 1 where not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smt_bench.cli.options import Results, say, show

check = typer.Typer(help="Checks what results rest on; exit code 1 where it does not hold.", no_args_is_help=True)


@check.callback()
def _group() -> None:
    """Keeps the commands named, however many there are."""


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

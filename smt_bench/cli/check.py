"""The commands below `check`: whether what is here can be relied on. Exit code 1 where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smt_bench.cli.options import Results, check_results, say, show

check = typer.Typer(help="Checks that what is stored, and this machine, can be relied on.", no_args_is_help=True)


@check.callback()
def _group() -> None:
    """More than one command may follow."""


@check.command()
def record(
    key: Annotated[str, typer.Argument(help="Of the record, or its first digits.")],
    model: Annotated[
        str | None, typer.Option(help="Where the record's model is not found by its name: its folder.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder in the LLM-Adapters layout.")] = None,
    results: Results = Path("results"),
) -> None:
    """Runs a record's question again and says whether losses, blocks, predictions and held-out loss are the same."""
    from smt_bench.execute import execute
    from smt_bench.questions.again import LOSS, NATS, PREDICTIONS, compare, inputs_of, unlike
    from smt_bench.records.store import Store

    old = Store(check_results(results)).resolve(key)
    run, inputs = inputs_of(old, model, data)
    if run.key != old["key"]:
        raise ValueError(f"record {old['key']} asks what this version asks as {run.key}: use the version that wrote it")
    new = execute(run, inputs)
    other = unlike(old, new)
    points = compare(old, new, exact=not other)
    how = (
        "bit by bit"
        if not other
        else (
            f"on another kind of machine ({'; '.join(other)}): losses within {LOSS:g} (relative), held-out loss within {NATS:g} "
            f"nats, predictions but for {100 * PREDICTIONS:g} %"
        )
    )
    show(f"record {old['key']}: compared {how}")
    for point in points:
        show(f"  {'same' if point.same else 'DIFFERS'}  {point.what}: {point.told}")
    if not all(point.same for point in points):
        say("the record was not reproduced")
        raise typer.Exit(1)

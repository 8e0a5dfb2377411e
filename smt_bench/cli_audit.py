"""The command line's `audit paper` and `audit data`. Findings are no errors: the exit code is 0 also where claims fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

audit = typer.Typer(
    help="Checks the papers' printed numbers, or a data folder.", no_args_is_help=True, rich_markup_mode=None
)

Results = Annotated[Path, typer.Option("--results", help="The report goes to <results>/audit.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@audit.command("paper")
def paper_(results: Results = Path("results"), as_json: Json = False) -> None:
    """Checks the papers' printed numbers against each other and against what the text says of them."""
    from smt_bench.audit import paper, tables
    from smt_bench.store import Store

    Store(results).check_writable(results / "audit")
    found = paper.findings(tables.load())
    path = paper.write(found, results)
    print(json.dumps([f.to_dict() for f in found], indent=1) if as_json else paper.markdown(found))
    print(f"{paper.summary(found)}\nwrote {path}", file=sys.stderr)


@audit.command("data")
def data_(
    data: Annotated[str, typer.Option(help="Folder in the LLM-Adapters layout.")],
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Counts overlap of training and test sets, duplicates, constant answers and broken gold labels."""
    from smt_bench.audit import collection
    from smt_bench.store import Store

    Store(results).check_writable(results / "audit")
    report = collection.report(Path(data))
    path = collection.write(report, results)
    print(json.dumps(report.to_dict(), indent=1) if as_json else collection.markdown(report))
    print(f"{collection.summary(report)}\nwrote {path}", file=sys.stderr)

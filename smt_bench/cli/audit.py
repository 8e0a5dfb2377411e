"""The command line's `audit paper` and `audit data`. Findings are no errors: the exit code is 0 also where claims fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smt_bench.cli.options import say

if TYPE_CHECKING:
    from smt_bench.audit.page import Page

audit = typer.Typer(help="Checks the papers' printed numbers, or a data folder.", rich_markup_mode=None)

Results = Annotated[Path, typer.Option("--results", help="The report goes to <results>/audit.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@audit.command("paper")
def paper_(results: Results = Path("results"), as_json: Json = False) -> None:
    """Checks the papers' printed numbers against each other and against what the text says of them."""
    from smt_bench.audit import paper, printed

    def look() -> tuple[Page, str, Any]:
        found = paper.findings(printed.load())
        return paper.page(found), paper.summary(found), [f.to_dict() for f in found]

    _report(look, results, "paper", as_json)


@audit.command("data")
def data_(
    data: Annotated[str, typer.Option(help="Folder in the LLM-Adapters layout.")],
    results: Results = Path("results"),
    as_json: Json = False,
) -> None:
    """Counts overlap of training and test sets, duplicates, constant answers and broken gold labels."""
    from smt_bench.audit import collection

    def look() -> tuple[Page, str, Any]:
        found = collection.report(Path(data))
        return collection.page(found), collection.summary(found), found.to_dict()

    _report(look, results, "data", as_json)


def _report(look: Callable[[], tuple[Page, str, Any]], results: Path, name: str, as_json: bool) -> None:
    """Looks, writes `<results>/audit/<name>.md` and prints the page, or the findings as JSON."""
    from smt_bench.audit.page import markdown, show
    from smt_bench.machine.files import write_text
    from smt_bench.records.store import Store

    Store(results).check_writable(results / "audit")
    page, summary, values = look()
    path = results / "audit" / f"{name}.md"
    write_text(path, markdown(page))
    if as_json:
        print(json.dumps(values, indent=1))
    else:
        show(page)
    say(f"{summary}\nwrote {path}")

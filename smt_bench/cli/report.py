"""The command line's `report`: one page of everything in a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smt_bench.cli.options import Results, say
from smt_bench.cli.values import check_results


def report(
    results: Results = Path("results"),
    out: Annotated[
        Path | None, typer.Option("--out", help="The file; default: report/index.html in that folder.")
    ] = None,
) -> None:
    """Writes one page for people: which method for which budget, the papers' claims, figures, tables, every run.

    It needs no network and no server: open the file. Tables are those that `run` or `table` wrote last.
    """
    from smt_bench.machine.files import write_text
    from smt_bench.records.files import check_writable
    from smt_bench.report.page.build import page

    place = out or check_results(results) / "report" / "index.html"
    check_writable(f"folder {place.parent}", "--out", place.parent)
    text = page(check_results(results))
    write_text(place, text)
    say(f"wrote {place} ({len(text.encode()) / 1e6:.1f} MB)")

"""A report of texts and tables: Markdown for the file, and for a terminal tables that fit its width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as Grid

from smt_bench.report.table import Table

Page = Sequence[str | Table]


def markdown(page: Page) -> str:
    """The whole page as Markdown."""
    parts = [part.to_markdown() if isinstance(part, Table) else part for part in page]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def show(page: Page, console: Console | None = None) -> None:
    """Prints the page: wrapped tables on a terminal, Markdown into files and pipes."""
    console = console or Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.file.write(markdown(page))
        return
    for part in page:
        if isinstance(part, Table):
            grid = Grid(*map(str, part.header), title=part.title, title_justify="left")
            for row in part.rows:
                grid.add_row(*("" if cell is None else str(cell) for cell in row))
            console.print(grid)
            for note in part.notes:
                console.print(f"- {note}")
        else:
            console.print(part)
        console.print()

"""A page is Markdown in files and pipes, and tables that fit the width on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from smt_bench.audit.page import markdown, show
from smt_bench.report.table import Table

PAGE = [
    "# Title",
    "A sentence.",
    Table("Numbers", ["where", "printed"], [["a [...] b " * 8, 78.7], ["c", None]], ["a note"]),
]


def shown(terminal: bool) -> str:
    file = io.StringIO()
    show(PAGE, Console(file=file, force_terminal=terminal, width=60, markup=False, highlight=False, color_system=None))
    return file.getvalue()


def test_pipes_get_markdown() -> None:
    assert shown(terminal=False) == markdown(PAGE)
    assert "## Numbers" in markdown(PAGE) and "- a note" in markdown(PAGE)


def test_terminals_get_wrapped_tables_with_the_same_content() -> None:
    text = shown(terminal=True)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("[...]") == 8 and "78.7" in text and "None" not in text
    assert "Title" in text and "A sentence." in text and "- a note" in text

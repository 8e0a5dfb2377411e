"""Tables: Markdown to read, CSV to compute with."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smt_bench.machine import borders
from smt_bench.machine.files import write_text

Cell = str | int | float | bool | None
HOW = "How it was made:"  # above the notes that a reader of the numbers does not need at once


class Made(str):
    """A note on how the runs behind a table were made; it stands below those that say how to read the table."""


@dataclass
class Table:
    """One table.

    Attributes:
        title: printed above.
        header: column names.
        rows: cells as they are to be read; None and NaN are blank.
        notes: what a reader has to know; printed below, one bullet each, those that are `Made` in a list of their own.
        data: the same content in plain numbers for the CSV, one mapping per row, all with the same keys; by default
            `header` and `rows`, whose cells must then be plain.
        columns: names of the CSV's columns, needed only where `data` may be empty.
        keys: of the records that every row is made of; a column "keys" of the CSV. Empty where rows have their own, or are
            computed without records.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    data: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    columns: Sequence[str] | None = None
    keys: Sequence[str] = ()

    def of(self, records: Sequence[Mapping[str, Any]]) -> Table:
        """The same table, every row of which is made of these records."""
        return replace(self, keys=[r["key"] for r in records])

    def to_markdown(self) -> str:
        """A Markdown table with aligned columns, readable as plain text."""
        cells = [[_shown(c) for c in row] for row in (self.header, *self.rows)]
        assert all(len(row) == len(self.header) for row in cells), f"{self.title}: rows of different lengths"
        widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(self.header))]
        # Words to the left; numbers to the right, so that their digits stand below each other.
        right = [any(_starts_numeric(row[i]) for row in cells[1:]) for i in range(len(self.header))]
        lines = [_line([c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)]) for row in cells]
        lines.insert(1, _line([("-" * (w - 1) + ":") if r else "-" * w for w, r in zip(widths, right)]))
        notes = _listed([n for n in self.notes if not isinstance(n, Made)])
        made = _listed([n for n in self.notes if isinstance(n, Made)])
        notes += ["", HOW, *made] if made else []
        return "\n".join([f"## {borders.markdown(self.title)}", "", *lines, *notes]) + "\n"

    def to_csv(self) -> str:
        """One header row and plain numbers; missing is empty."""
        data = self.data if self.data is not None else [dict(zip(self.header, row)) for row in self.rows]
        columns = list(data[0]) if data else list(self.columns or self.header)
        if self.keys:
            assert "keys" not in columns, f"{self.title}: its rows name their own records"
            data, columns = [{**row, "keys": " ".join(self.keys)} for row in data], [*columns, "keys"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_plain(column) for column in columns)
        for row in data:
            assert list(row) == columns, f"{self.title}: rows with different columns"
            writer.writerow([_plain(row[column]) for column in columns])
        return text.getvalue()

    def write(self, folder: Path, name: str) -> list[Path]:
        """Writes `name.md` and `name.csv` atomically; returns both."""
        paths = [folder / f"{name}.md", folder / f"{name}.csv"]
        write_text(paths[0], self.to_markdown())
        write_text(paths[1], self.to_csv())
        return paths


def in_short(text: str, name: str) -> str:
    """A table's text without how it was made.

    Args:
        text: of a Markdown file.
        name: of the file, where all of it stands.
    """

    def instead(found: re.Match[str]) -> str:
        lines = found[1].count("\n")
        return f"- {HOW} {lines} line{'s' if lines > 1 else ''} in {name}.\n"

    return re.sub(rf"\n{HOW}\n\n((?:- .*\n)+)", instead, text)


def _listed(notes: Sequence[str]) -> list[str]:
    return ["", *(f"- {_flat(note)}" for note in notes)] if notes else []


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _flat(text: str) -> str:
    return " ".join(borders.terminal(text).split())


def _starts_numeric(text: str) -> bool:
    return text.lstrip("*(+-")[:1].isdigit()


def _shown(value: Cell) -> str:
    if _missing(value):
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return _flat(text).replace("|", "\\|").replace("<", "&lt;")


def _plain(value: Cell) -> str:
    if _missing(value):
        return ""
    if isinstance(value, bool):
        return str(int(value))
    # Ten digits: more than any of these numbers holds, without the tails of binary fractions.
    if isinstance(value, str):
        return borders.csv_cell(borders.terminal(value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def add_notes(files: Sequence[Path], lines: Sequence[str]) -> None:
    """Adds lines below tables that are written already."""
    for path in files:
        text, how, made = path.read_text(encoding="utf-8").partition(f"\n{HOW}\n")
        text = text.rstrip("\n")
        gap = "\n" if text.rpartition("\n")[2].startswith("- ") else "\n\n"
        write_text(path, text + gap + "\n".join(f"- {_flat(line)}" for line in lines) + "\n" + how + made)


def filled(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that all have every column that one of them has; None where there is no value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in columns} for row in rows]

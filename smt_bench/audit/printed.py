"""The printed tables as the checks take them: rows of text cells, and ways to point at one cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from smt_bench.data import families
from smt_bench.evidence import published

Row = Mapping[str, str]
Tables = Mapping[str, Sequence[Row]]

COMMONSENSE = tuple(t.published_column for t in families.COMMONSENSE.tasks if t.published_column)
MATH = tuple(t.published_column for t in families.MATH.tasks if t.published_column)
_MEASURED = {
    *COMMONSENSE, *MATH, "avg", "marked_best", "time_s", "speedup", "flanv2_mmlu", "flanv2_tydiqa",
    "gpt4alpaca_humaneval", "tulu2_mmlu", "tulu2_gsm", "tulu2_bbh", "tulu2_tydiqa", "tulu2_humaneval",
    "composed_humaneval", "memory_gb", "memory_gb_checkpointing", "step_time_s", "step_time_s_checkpointing",
}  # fmt: skip


def load() -> dict[str, list[dict[str, str]]]:
    """All published tables, by file name without ".csv"."""
    return {name: published.as_printed(name) for name in sorted(published.names(), key=_by_number)}


def _by_number(table: str) -> tuple[str, int, str]:
    """Table 9 before table 10; what has no number last."""
    paper, _, rest = table.partition("_")
    digits = "".join(c for c in rest.split("_")[0] if c.isdigit())
    return paper, int(digits) if digits and rest.startswith("table") else 1000, rest


def title(table: str) -> str:
    """A table's name for people: "smt_table3_plateau" is "SMT table 3"."""
    paper, _, rest = table.partition("_")
    kind, _, _ = rest.partition("_")
    digits = "".join(c for c in kind if c.isdigit())
    names = {"smt": "SMT", "spiel": "SpIEL"}
    if kind == "appendix":
        return f"{names[paper]} appendix {rest.split('_')[1].upper()}"
    return f"{names.get(paper, paper)} {kind.removesuffix(digits)} {digits}".strip()


def label(row: Row) -> str:
    """What a row is about: its cells that are no results, e.g. "llama-7b lora(best) 0.83 %"."""
    parts = []
    for column, text in row.items():
        if text and column not in _MEASURED:
            percent = column == "params_pct"
            plain = column in ("model", "method", "allocation", "metric", "scope", "selection", "schedule")
            parts.append(f"{text} %" if percent else text if plain else f"{column} {text}")
    return " ".join(parts)


def number(text: str) -> Decimal | None:
    """A printed number; None where the cell is blank."""
    return Decimal(text) if text else None


def tasks_of(row: Row) -> tuple[str, ...]:
    """The task columns that a row has, all of one family."""
    return next((family for family in (COMMONSENSE, MATH) if set(family) <= row.keys()), ())


@dataclass(frozen=True)
class Cell:
    """One printed number: a table, what its row says, and a column.

    Attributes:
        table: file name without ".csv".
        where: cells that the row must have, as printed.
        column: the column.
    """

    table: str
    where: tuple[tuple[str, str], ...]
    column: str

    def find(self, tables: Tables) -> Decimal | None:
        """The number; None where the table, the row or the number is missing."""
        row = find_row(tables.get(self.table, ()), self.where)
        return None if row is None else number(row.get(self.column, ""))


def cell(table: str, column: str = "avg", **where: str) -> Cell:
    """`cell("smt_table3_plateau", model="llama-7b", method="smt", params_pct="0.84")`."""
    return Cell(table, tuple(where.items()), column)


def find_row(rows: Sequence[Row], where: Iterable[tuple[str, str]]) -> Row | None:
    """The one row with these cells, or None.

    Raises:
        AssertionError: several rows: the check's data is wrong.
    """
    wanted = tuple(where)
    found = [row for row in rows if all(row.get(column) == text for column, text in wanted)]
    assert len(found) < 2, f"{wanted} names {len(found)} rows"
    return found[0] if found else None

"""docs/architectures.csv says what works; each row is tried again."""

from __future__ import annotations

import csv

import matrix
import pytest
from architectures import ARCHITECTURES, builds


def page() -> dict[str, dict[str, str]]:
    with (matrix.DOCS / "architectures.csv").open(newline="", encoding="utf-8") as file:
        return {row.pop("architecture"): row for row in csv.DictReader(file)}


def test_the_page_has_every_architecture_and_method() -> None:
    rows = page()
    assert list(rows) == list(ARCHITECTURES) and all(list(row) == matrix.names() for row in rows.values())
    own = [name for name in matrix.names() if not name.startswith("peft:")]
    lost = {(model, name) for model, row in rows.items() for name in own if row[name] != matrix.WORKS}
    assert lost == {("mamba", "s2ft")}  # whose in_proj is coupled with nothing
    shown = (matrix.DOCS / "architectures.md").read_text(encoding="utf-8")
    lines = {
        line.split("|")[1].strip(): line.split("|")[4].strip() for line in shown.splitlines() if line.startswith("| ")
    }
    for name, row in rows.items():
        assert lines[name] == str(sum(what == matrix.WORKS for what in row.values()))


@pytest.mark.parametrize("name", builds(ARCHITECTURES))
def test_the_page_is_true(name: str) -> None:
    found, said = matrix.row(name), page()[name]
    assert {m: what == matrix.WORKS for m, what in found.items()} == {
        m: what == matrix.WORKS for m, what in said.items()
    }

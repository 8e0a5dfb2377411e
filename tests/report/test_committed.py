"""All committed CSVs of results: what they are made of is named, and is there."""

from __future__ import annotations

import csv
import json
import re

import pytest
from helpers import ROOT

REFERENCE = ROOT / "results" / "reference"
COMMITTED = [p for kind in ("paper", "reference*") for p in (ROOT / "results").glob(kind)]  # others are a user's own
FILES = sorted(p.relative_to(ROOT).as_posix() for folder in COMMITTED for p in folder.rglob("*.csv"))
# Computed from shapes and rules, or simulated: no record is behind them.
WITHOUT_RECORDS = ("results/paper/", "results/reference/plan/", "results/reference/statistics/")
COMPUTED = [n for n in FILES if not n.startswith(WITHOUT_RECORDS) and not n.endswith("left_out.csv")]


def rows(name: str) -> list[dict[str, str]]:
    with (ROOT / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", FILES)
def test_rows_are_as_long_as_the_header_and_hold_no_stand_in(name: str) -> None:
    with (ROOT / name).open(encoding="utf-8", newline="") as file:
        header, *lines = list(csv.reader(file))
    assert len(set(header)) == len(header) and lines
    for line in lines:
        assert len(line) == len(header)
        assert not [cell for cell in line if re.fullmatch(r"(?i)nan|none|-?inf|null|n/a", cell)]


@pytest.mark.parametrize("name", COMPUTED)
def test_every_row_names_the_records_that_it_is_made_of(name: str) -> None:
    root = next(p for p in (ROOT / name).parents if (p / "runs").is_dir())
    there = {p.name.partition(".")[0] for p in (root / "runs").iterdir()}
    for row in rows(name):
        keys = row["keys"].split()
        # A printed row is of the paper, and a row of a table that was not run has nothing behind it.
        assert keys or row.get("source") == "published" or row.get("published"), row
        assert set(keys) <= there, set(keys) - there


@pytest.mark.parametrize("root", ["reference", "reference-tuners", "reference-sparse"])
def test_no_record_is_without_a_table(root: str) -> None:
    place = ROOT / "results" / root
    indexes = [json.loads(p.read_text(encoding="utf-8"))["settings"] for p in place.rglob("runs.json")]
    listed = {key for settings in indexes for keys in settings.values() for key in keys}
    assert {p.name.partition(".")[0] for p in (place / "runs").iterdir() if ".json" in p.name} <= listed


def test_there_are_such_files() -> None:
    assert len(COMPUTED) > 60

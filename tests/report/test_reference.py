"""The committed results are what the code makes of the committed records."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import chosen_and_reported
import pytest
from helpers import ROOT

from smt_bench import experiments
from smt_bench.cli.draw import render
from smt_bench.records.index import Index
from smt_bench.records.store import Store
from smt_bench.report.conditions import ERRATA


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("reference", "plateau"),
        ("reference", "commonsense"),
        ("reference", "block-size"),
        ("reference", "criteria"),
        ("reference-sparse", "plateau"),
    ],
)
def test_committed_tables_are_rendered_from_committed_records(root: str, name: str, tmp_path: Path) -> None:
    place = ROOT / "results" / root / name / "tiny"
    render(experiments.find(name), Store(ROOT / "results" / root), Index.read(place), tmp_path, "tiny")
    made = {f.name: f for f in tmp_path.iterdir()}
    # Which runs, what was to be compared, another command's, and another data family's.
    given = {"runs.json", "analysis.json", "tuning", "math"}
    assert set(made) == {f.name for f in place.iterdir()} - given
    for path in sorted(place.glob("*.csv")):
        rows = [list(csv.reader(p.read_text(encoding="utf-8").splitlines())) for p in (path, made[path.name])]
        committed, now = rows
        assert committed[0] == now[0] and len(committed) == len(now), path.name
        for old, new in zip(committed[1:], now[1:]):
            for column, a, b in zip(committed[0], old, new, strict=True):
                x, y = number(a), number(b)
                # Sums in another order on another machine may move the last digits.
                same = a == b if x is None or y is None else math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9)
                assert same, (path.name, column, a, b)


def test_what_tables_say_of_a_tuning_is_what_the_records_give(capsys: pytest.CaptureFixture[str]) -> None:
    chosen_and_reported.main()
    told, (said,) = capsys.readouterr().out, ERRATA.values()
    assert told.startswith("17 of the 30 examples") and "chose by 30 examples of which 17 are" in said
    assert told.count(" wins, as it did; ") == 5 and "it would have chosen the same" in said
    moved = [float(value) for value in re.findall(r"two trained rows: moves by (\S+) at most", told)]
    assert len(moved) == 4 and f"by more than {max(moved):.3f} nats" in said

"""Keys, losses and rendered files are what they were when `tests/golden.json` was written (see `golden.py`)."""

from __future__ import annotations

import json
from typing import Any

import golden
import pytest


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return json.loads(golden.GOLDEN.read_text(encoding="utf-8"))


def changes(kept: dict[str, Any], runs: dict[str, tuple[str, ...]]) -> list[str]:
    """Where records of runs made now differ from those kept under the same keys."""
    made = golden.records(runs)
    assert made and made.keys() <= kept["records"].keys()
    exact = kept["machine"] == golden.here()
    return list(golden.moved({key: kept["records"][key] for key in made}, made, exact))


def test_no_planned_key_moved(kept: dict[str, Any]) -> None:
    assert list(golden.moved(kept["keys"], golden.keys(), exact=True)) == []


def test_no_number_of_a_short_run_moved(kept: dict[str, Any]) -> None:
    assert changes(kept, golden.SHORT) == []


def test_a_moved_number_is_seen(kept: dict[str, Any]) -> None:
    key, record = next((k, r) for k, r in kept["records"].items() if r.get("losses"))
    loss = record["losses"][0]
    for factor, exact, seen in ((1 + 1e-9, True, 1), (1 + 1e-5, False, 0), (1.01, False, 1)):
        other = record | {"losses": [loss * factor, *record["losses"][1:]]}
        assert len(list(golden.moved({key: record}, {key: other}, exact))) == seen
    assert len(list(golden.moved({key: record}, {}, exact=False))) == 1


@pytest.mark.slow
def test_no_number_of_the_longer_runs_moved(kept: dict[str, Any]) -> None:
    assert changes(kept, golden.LONG) == []


@pytest.mark.slow
def test_committed_tables_and_figures_follow_from_committed_records() -> None:
    assert list(golden.rendered()) == []

"""Dry runs by several processes are those of one, and what a process cannot make is made here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from smt_bench import methods
from smt_bench.plan import dry_runs, side_by_side
from smt_bench.plan.dry import Workload
from smt_bench.plan.dry_runs import DryRuns, Structure, several_at_a_time

WORKLOAD = Workload("tiny", 2, 32, "fp32")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(side_by_side, "cores", lambda: 2)
    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path / "cache"))


def structures(*names: str) -> list[Structure]:
    return [(name, methods.find(name).Config().to_dict(), fraction, 20) for name in names for fraction in (0.02, 0.04)]


def alone(asked: list[Structure], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setenv("SMT_BENCH_CACHE", str(folder))  # nothing is remembered there
    runs = DryRuns(WORKLOAD)
    return [runs.run(*structure).to_dict() for structure in asked]


def test_several_at_a_time_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = structures("spiel", "lora")
    runs, here = DryRuns(WORKLOAD), []
    original = dry_runs.dry_run_of
    monkeypatch.setattr(dry_runs, "dry_run_of", lambda *args: here.append(args) or original(*args))
    with several_at_a_time([(runs, [*asked, *asked])]):  # seeds and rates ask for the same ones
        found = [runs.run(*structure).to_dict() for structure in asked]
    assert not here  # all by other processes
    assert found == alone(asked, tmp_path / "other", monkeypatch) and len(here) == len(asked)


def test_what_is_remembered_or_alone_needs_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "pool", lambda *args: pytest.fail("a process was started"))
    asked = structures("lora")
    runs = DryRuns(WORKLOAD)
    for structure in asked:
        with several_at_a_time([(runs, [structure])]):
            runs.run(*structure)
    again = DryRuns(WORKLOAD)
    with several_at_a_time([(again, asked)]):
        assert [again.run(*s) for s in asked] == [runs.run(*s) for s in asked]


def end(*arguments: Any) -> None:
    os._exit(9)


def test_a_process_that_was_killed_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked, runs = structures("lora"), DryRuns(WORKLOAD)
    monkeypatch.setattr(dry_runs, "_answer", end)
    with several_at_a_time([(runs, asked)]):
        found = [runs.run(*structure).to_dict() for structure in asked]
    assert found == alone(asked, tmp_path / "other", monkeypatch)

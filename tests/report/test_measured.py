"""Measurements of different packages or machines are not averaged."""

from __future__ import annotations

from typing import Any

import pytest

from smt_bench.records.store import Record
from smt_bench.report.measured import measured


def timed(seed: int, torch: str = "2.13.0", cpu: str = "EPYC", machine: str = "EPYC, 2 threads", **more: Any) -> Record:
    run = {"seed": seed, "machine": machine, "model": {"name": "tiny"}}
    environment = {"packages": {"torch": torch}, "cpu": cpu, "gpus": []}
    return {"status": "done", "finished": f"2026-01-0{seed + 1}", "run": run, "environment": environment} | more


def test_alike_are_all_kept_and_say_with_what() -> None:
    kept, lines = measured([timed(0), timed(1)], "tiny")
    assert [r["run"]["seed"] for r in kept] == [0, 1]
    assert lines == ["Made with torch 2.13.0 on EPYC."]


@pytest.mark.parametrize("unlike", [{"torch": "2.11.0"}, {"cpu": "Xeon"}, {"machine": "EPYC, 1 threads"}])
def test_the_unlike_are_left_out_by_name(unlike: dict[str, str]) -> None:
    kept, lines = measured([timed(0, **unlike), timed(2), timed(1)], "tiny")
    assert [r["run"]["seed"] for r in kept] == [2, 1]
    assert lines[0] == "Made with torch 2.13.0 on EPYC."
    assert "Left out" in lines[1] and "tiny seed 0." in lines[1]


def test_the_newest_decides() -> None:
    kept, _ = measured([timed(0), timed(1), timed(2, torch="2.14.0")], "tiny")
    assert [r["run"]["seed"] for r in kept] == [2]


def test_none_finished_is_an_error() -> None:
    with pytest.raises(ValueError, match="no measurement of tiny was finished"):
        measured([timed(0, status="failed", message="killed")], "tiny")

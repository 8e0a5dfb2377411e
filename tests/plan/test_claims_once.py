"""`plan claims` is computed once for the same code and packages, and says on the way which dry run it is at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smt_bench import methods
from smt_bench.plan import dry, dry_runs
from smt_bench.plan.claims import page
from smt_bench.plan.claims.lab import Lab, Statement


def test_the_second_time_is_the_first_ones_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[int] = []

    def collect(lab: Lab) -> list[Statement]:
        made.append(1)
        lab._say("smt on llama-7b")
        return [Statement("name", "paper", "statement", "none", 1.0, len(made) + 0.5, "GB", "holds")]

    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(page, "collect", collect)
    monkeypatch.setattr(page, "cores", lambda: 1)  # one core: in this process
    page.main(tmp_path / "one", as_json=False)
    assert "dry run after 0 s: smt on llama-7b" in capsys.readouterr().err
    page.main(tmp_path / "two", as_json=False)
    assert len(made) == 1 and "dry run" not in capsys.readouterr().err
    first, second = ((tmp_path / name / "claims.csv").read_bytes() for name in ("one", "two"))
    assert first == second and b"1.5" in first


def test_a_dry_run_is_made_once_and_comes_back_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMT_BENCH_CACHE", str(tmp_path))
    made = []

    def counted(*args: Any) -> dry.DryRun:
        made.append(args)
        return plain(*args)

    plain = dry.dry_run
    monkeypatch.setattr(dry_runs, "dry_run", counted)
    work = dry.Workload("tiny", 2, 16)
    asked = [("smt", methods.find("smt").Config(block_size=32).to_dict(), 0.02, 200), ("base", {}, None, 200)]
    first = [dry_runs.DryRuns(work).run(*one) for one in asked]
    again = [dry_runs.DryRuns(work).run(*one) for one in asked]
    assert len(made) == 2 and first == again
    assert first[0] == plain(work, methods.build("smt", asked[0][1], 0.02, 0, 200), {}, "")
    assert first[0].operations["warmup"] and first[0].account.phases[0].stage == "warmup"
    dry_runs.DryRuns(replace(work, length=17)).run(*asked[0])
    assert len(made) == 3

"""`plan claims` is computed once for the same code and packages, and says on the way which dry run it is at."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    page.main(tmp_path / "one", as_json=False)
    assert "dry run after 0 s: smt on llama-7b" in capsys.readouterr().err
    page.main(tmp_path / "two", as_json=False)
    assert len(made) == 1 and "dry run" not in capsys.readouterr().err
    first, second = ((tmp_path / name / "claims.csv").read_bytes() for name in ("one", "two"))
    assert first == second and b"1.5" in first

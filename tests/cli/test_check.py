"""`check statistics` and `plan power` as a user meets them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

from smt_bench.cli.app import main
from smt_bench.evidence import benchmark
from smt_bench.evidence.benchmark import Case
from smt_bench.machine.fits import Machine
from smt_bench.plan import power
from smt_bench.plan.rows import DryPlanner
from smt_bench.questions.request import Request

REFERENCE = ROOT / "results" / "reference"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["smt_bench", *args])
        with pytest.raises(SystemExit) as stop:
            main()
        done = capsys.readouterr()
        return int(stop.value.code or 0), done.out, done.err

    return call


def test_check_statistics_writes_its_table_and_fails_where_it_must(cli, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmark, "cases", lambda quick=False: [Case("NLL", True, 3, 1.0)])
    monkeypatch.setattr(benchmark, "families", lambda draws: [{"what": "w", "bound": "b", "share": 0.0, "ok": True}])
    code, out, err = cli("check", "statistics", "--draws", "100", "--results", str(tmp_path))
    assert code == 0 and "Do the intervals cover" in out and "wrote" in err
    assert {p.name for p in (tmp_path / "statistics").iterdir()} == {
        "statistics.md", "statistics.csv", "families.md", "families.csv",
    }  # fmt: skip
    monkeypatch.setattr(benchmark, "kept", lambda row, draws: False)
    code, _, err = cli("check", "statistics", "--draws", "100", "--results", str(tmp_path))
    assert code == 1 and "outside its bounds" in err
    assert cli("check", "statistics", "--draws", "99")[0] == 2


def test_plan_power_from_records_and_from_guesses(cli, tmp_path: Path) -> None:
    code, out, _ = cli("plan", "power", "plateau", "--model", "tiny", "--results", str(REFERENCE), "--effect", "10")
    assert code == 0 and "136 pairs of 17 stored cells" in out and "10 points: one comparison needs 6 seeds" in out
    code, out, _ = cli("plan", "power", "qkv", "--model", "tiny", "--results", str(REFERENCE))
    assert code == 0 and "6 pairs of 4 stored cells" in out  # which differ in settings alone
    assert "finding 0.01 nats takes with 100 held-out examples" in out and "nats by the pair of cells" in out
    code, out, _ = cli("plan", "power", "plateau", "--model", "tiny", "--results", str(tmp_path), "--json")
    rows = json.loads(out)
    assert code == 0 and [row["seeds"] for row in rows] == [2, 3, 5, 10, 20] and not list(tmp_path.iterdir())
    for name in rows[0].keys() - {"seeds"}:
        values = [row[name] for row in rows]
        assert values == sorted(values, reverse=True) and values[-1] > 0, name
    assert all(row["points_family"] > row["points_one"] for row in rows)
    code, out, _ = cli("plan", "power", "qkv", "--model", "llama-7b", "--results", str(tmp_path))
    assert code == 0 and "guesses: nothing is stored; 8,000 test items" in out


def test_guesses_count_lm_evals_tasks_and_no_items_that_there_are_not() -> None:
    def planner(**asked: Any) -> DryPlanner:
        return DryPlanner(Request("plateau", "tiny", **asked), Machine((), 1))

    assert power._guessed(planner(tasks=("lm-eval:arc_easy",), limit=30)).items == 30
    made = planner()
    made.open_without_data()
    made.data = replace(made.data, train=["one"], tests={})  # read, without a test set
    assert power._guessed(made).points is None and power._guessed(made).nats is not None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("power",), "plan power: name the experiment"),
        (("plateau", "qkv"), "only power takes one"),
        (("power", "plateau", "--effect", "0"), "--effect 0: a difference above 0"),
        (("plateau", "--effect", "1"), "--effect 1: a difference above 0, of `plan power EXPERIMENT`"),
        (("power", "plateau", "--effect", "nan"), "--effect nan: a difference above 0"),
        (("power", "plateau", "--effect", "101"), "at most 100 points"),
        (("power", "plateau", "--gpus", "4"), "--gpus: plan power says what differences can be told"),
        (("power", "plateau", "--no-checkpointing"), "--checkpointing: plan power says"),
        (("power", "speed"), "speed makes no training run"),
        (("power", "plateu"), "plateau"),
    ],
)
def test_what_plan_power_refuses(cli, args: tuple[str, ...], said: str) -> None:
    code, _, err = cli("plan", *args)
    assert code == 2 and said in err and err.count("\n") == 1


@pytest.mark.parametrize("option", ["--margin-points", "--margin-nats"])
def test_margins_of_the_table(cli, option: str, tmp_path: Path) -> None:
    args = ("table", "block-size", "--results", str(REFERENCE), "--out", str(tmp_path))
    said = (
        "Margins: 7 points of accuracy, 0.01 nats"
        if option == "--margin-points"
        else "Margins: 1 point of accuracy, 7 nats"
    )
    code, out, _ = cli(*args, option, "7")
    assert code == 0 and said in out and said in (tmp_path / "block-size/tiny/table12.md").read_text()
    code, _, err = cli(*args, option, "0")
    assert code == 2 and f"{option} 0: choose a number above 0" in err

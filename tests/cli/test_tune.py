"""`tune`, then `run --tuned`: one small search from the command line to both tables, taken up again, declared before it ran."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import golden
import pytest
from helpers import Cli

from smt_bench.records import heldout
from smt_bench.records.store import Store

SMALL = ("--preset", "smoke", "--methods", "full,lora", "--steps", "3", "--limit", "2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    golden.call("tune", "plateau", "--trials", "3", *SMALL, "--results", str(folder))
    golden.call("run", "plateau", "--tuned", *SMALL, "--results", str(folder))
    return folder


def tuning(folder: Path) -> tuple[str, dict[str, Any]]:
    found = json.loads((folder / "plateau" / "tiny" / "tuning" / "tuning.json").read_text())
    return found["latest"], found["tunings"][found["latest"]]


def test_the_winner_follows_from_the_records(made: Path) -> None:
    name, found = tuning(made)
    assert set(found["winners"]) == {"full", "lora"} and found["declared"]["trials"] == 3
    records = {r["key"]: r for r in Store(made).records()}
    for method, winner in found["winners"].items():
        own = [r for r in records.values() if r["run"]["method"]["name"] == method and r["run"]["seed"] >= 101]
        means: dict[float, list[float]] = {}
        for r in own:
            value = heldout.nll(r, "tune")
            assert value is not None
            means.setdefault(r["run"]["train"]["lr"], []).append(value)
        assert all(len(values) == 3 for values in means.values()) and len(means) == 3
        assert winner["lr"] == min(means, key=lambda lr: sum(means[lr]))
    tuned = [r for r in records.values() if r["run"].get("tuning")]
    assert (
        {r["run"]["tuning"] for r in tuned} == {name} and {r["run"]["seed"] for r in tuned} == {0} and len(tuned) == 2
    )
    for r in tuned:
        assert r["run"]["train"]["lr"] == found["winners"][r["run"]["method"]["name"]]["lr"]


def test_both_stand_side_by_side_and_the_tables_name_the_tuning(made: Path) -> None:
    name, _ = tuning(made)
    place = made / "plateau" / "tiny"
    beside = (place / "tuned.md").read_text()
    rows = [line.split("|")[1].strip() for line in beside.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["full", "full (tuned)", "LoRA", "LoRA (tuned)"] and f"tuning {name}" in beside
    assert "tuned" not in (place / "table3.md").read_text().split("- ")[0]
    assert f"tuning {name}" in (place / "tuned" / "table3.md").read_text()
    assert "Analysis written down before the first run" in (place / "table3.md").read_text()
    with (place / "table3.csv").open() as file:
        published = {row["method"]: row["accuracy"] for row in csv.DictReader(file)}
    with (place / "tuned.csv").open() as file:
        assert {row["row"]: row["accuracy"] for row in csv.DictReader(file)}["LoRA"] == published["lora"]


def test_the_same_command_has_nothing_left_to_do_and_a_longer_search_is_another_tuning(cli: Cli, made: Path) -> None:
    before = sorted(p.name for p in (made / "runs").iterdir())
    again = cli("tune", "plateau", "--trials", "3", *SMALL, "--results", str(made))
    assert again.returncode == 0 and "goes on, 3 trials of each of 2 methods" in again.stderr
    assert sorted(p.name for p in (made / "runs").iterdir()) == before
    hours = cli("tune", "plateau", "--trials", "4", *SMALL, "--results", str(made), "--dry-run").stderr
    assert " runs to do: about " in hours and "later seeds of the best, which follow, are not counted" in hours
    longer = cli("tune", "plateau", "--trials", "4", *SMALL, "--results", str(made), "--dry-run", "--json")
    rows = json.loads(longer.stdout)
    assert len(rows) == 8 and sum(row["status"] == "done" for row in rows) == 6


def test_other_conditions_ask_for_a_tuning_of_their_own(cli: Cli, made: Path) -> None:
    done = cli("run", "plateau", "--tuned", *SMALL[:-4], "--steps", "4", "--results", str(made))
    assert done.returncode == 2 and "train steps=3, here it is 4: tune anew" in done.stderr

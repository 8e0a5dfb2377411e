"""Disks that are full or turn read-only: checkpoints may be lost, results and the reason are not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import folders
import pytest
from helpers import Cli
from short_runs import question, result, session

from smt_bench.execute import execute
from smt_bench.machine.signals import Stop
from smt_bench.records.store import Store
from smt_bench.training.checkpoint import Checkpoints
from smt_bench.training.resume import Keeper, Pace


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 30 MB: room for one checkpoint of full fine-tuning (24.5 MB), not for two."""
    with folders.small_disk(tmp_path / "disk", "30m") as place:
        yield place


def test_a_full_disk_costs_checkpoints_but_no_result(small_disk: Path, tmp_path: Path) -> None:
    run, inputs = question("full")
    expected = execute(run, inputs)
    with pytest.warns(UserWarning, match=r"step 2 .* \(No space left on device\): the one of step 1 stays"):
        record = session(run, inputs, small_disk / "c", None, Pace(steps=1))
    assert result(record) == result(expected)
    assert [p.name[:8] for p in (small_disk / "c").iterdir()] == ["00000001"]
    assert result(session(run, inputs, small_disk / "c", None)) == result(expected)  # from step 1


def test_a_folder_that_turns_read_only_costs_checkpoints_but_no_result(small_disk: Path) -> None:
    run, inputs = question("spiel")  # small checkpoints
    expected = execute(run, inputs)
    taken = small_disk / "c"

    def watch(phase: str, done: int, total: int, note: str = "") -> None:
        if phase == "train" and done == 3:
            subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    with pytest.warns(UserWarning, match=r"\(Read-only file system\): the one of step 2 stays"):
        record = execute(run, replace(inputs, watch=watch, keeper=Keeper(Checkpoints(taken), Pace(steps=1), Stop())))
    assert result(record) == result(expected)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert result(session(run, inputs, taken, None)) == result(expected)  # from step 2


def test_a_read_only_results_folder_is_named_and_can_still_be_read(small_disk: Path, cli: Cli) -> None:
    asked = ["plateau", "--preset", "smoke", "--methods", "lora", "--steps", "2", "--limit", "1"]
    assert cli("run", *asked, "--results", str(small_disk)).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for command, place, option in (
        (["run", *asked], "runs", "--results"),
        (["table", "plateau"], "plateau/tiny", "--out"),
    ):
        done = cli(*command, "--results", str(small_disk))
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert f"{small_disk / place} is not writable: choose another with {option}" in done.stderr
    assert cli("table", "plateau", "--results", str(small_disk), "--out", "elsewhere").returncode == 0
    (row,) = json.loads(cli("status", "--json", "--results", str(small_disk)).stdout)
    assert row["status"] == "done"
    assert cli("show", row["key"], "--results", str(small_disk)).returncode == 0


@pytest.mark.slow
def test_a_record_that_does_not_fit_is_named_and_made_once_there_is_room(small_disk: Path) -> None:
    command = [sys.executable, "-m", "smt_bench", "run", "plateau", "--preset", "smoke", "--methods", "lora"]
    command += ["--steps", "2", "--limit", "1", "--results", str(small_disk)]
    Store(small_disk).runs.mkdir()
    # Room for a claim and an index, not for what is kept for a record.
    (small_disk / "filler").write_bytes(bytes(28 * 2**20))
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(r"runs/[0-9a-f]{16}\.json: No space left on device", done.stderr.splitlines()[-1])
    assert [p for p in Store(small_disk).runs.iterdir()] == []
    (small_disk / "filler").unlink()
    assert subprocess.run(command, capture_output=True, timeout=100, check=False).returncode == 0
    assert [r["status"] for r in Store(small_disk).records()] == ["done"]

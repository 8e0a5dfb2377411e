"""A sweep on a real SLURM, with runs preempted, killed and over their time limit, ends with the records of a local one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm_local

from smt_bench.claims import Claims
from smt_bench.cluster import Allocation
from smt_bench.store import Store

RUN = [
    "run",
    "plateau",
    "--preset",
    "smoke",
    "--methods",
    "smt,full",
    "--seeds",
    "0,1,2",
    "--limit",
    "2",
    "--steps",
    "120",
]
PARTS = ("key", "run", "status", "capacity", "training", "method", "heldout", "evaluation")


def cli(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smt_bench", *args], capture_output=True, text=True, cwd=cwd, timeout=900, check=False
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[None]:
    pytest.importorskip("submitit", reason="the extra smt-bench[slurm] is not installed")
    why = slurm_local.missing()
    if why:
        pytest.skip(why)
    place = tmp_path / "slurm"
    place.mkdir()
    with slurm_local.slurm(place):
        yield


def control(*args: str) -> None:
    subprocess.run(["scontrol", *args], check=True, capture_output=True)


def restarts(job: str) -> int:
    shown = subprocess.run(["scontrol", "show", "job", job], check=True, capture_output=True, text=True).stdout
    return int(shown.split("Restarts=")[1].split()[0])


@pytest.mark.slurm
def test_six_runs_one_preempted_one_killed_one_over_its_time_limit(cluster: None, tmp_path: Path) -> None:
    done = cli(*RUN, "--results", "remote", "--cluster", "slurm", "--partition", "main", "--gpus-per-run", "2",
               "--time", "00:10:00", "--checkpoint-steps", "10", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0 and "submitted 6 runs as job" in done.stderr, done.stderr
    again = cli(*RUN, "--results", "remote", "--cluster", "slurm", "--gpus-per-run", "2", cwd=tmp_path)
    assert "nothing to submit" in again.stderr  # SLURM has them all

    def rows() -> list[dict[str, Any]]:
        return json.loads(cli("status", "--json", "--results", "remote", cwd=tmp_path).stdout)

    def wait(what: Callable[[dict[str, Any]], bool], seconds: float = 300) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for row in rows():
                if what(row):
                    return row
            time.sleep(0.5)
        raise TimeoutError(json.dumps(rows(), indent=1))

    hit: list[str] = []

    def trains(row: dict[str, Any]) -> bool:
        return row["status"] == "running" and row.get("checkpoint_step", 0) >= 10 and row["key"] not in hit

    killed = wait(trains)
    hit.append(killed["key"])
    assert {row["status"] for row in rows()} <= {"running", "queued", "done"} and killed["job"]
    os.kill(killed["pid"], signal.SIGKILL)

    late = wait(trains)
    hit.append(late["key"])
    control("update", f"JobId={late['job']}", "TimeLimit=1")
    wait(lambda row: row["key"] == late["key"] and restarts(late["job"]) > 0)
    control("update", f"JobId={late['job']}", "TimeLimit=10")

    preempted = wait(trains)
    hit.append(preempted["key"])
    urgent = ["sbatch", "-p", "high", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 1"]
    subprocess.run(urgent, check=True, capture_output=True)
    wait(lambda row: row["key"] == preempted["key"] and restarts(preempted["job"]) > 0)

    wait(lambda _: all(row["status"] == "done" for row in rows()), 900)
    local = cli(*RUN, "--results", "local", "--processes", "2", cwd=tmp_path)
    assert local.returncode == 0, local.stderr
    expected = {r["key"]: {p: r[p] for p in PARTS} for r in Store(tmp_path / "local").records()}
    found = Store(tmp_path / "remote").records()
    assert {r["key"]: {p: r[p] for p in PARTS} for r in found} == expected
    for record in found:
        if record["key"] in hit:
            assert record["resumed_at_steps"], record["key"]
    assert "Table 3" in cli("table", "plateau", "--results", "remote", cwd=tmp_path).stdout


@pytest.mark.slurm
def test_cancelled_runs_can_be_submitted_again(cluster: None, tmp_path: Path) -> None:
    command = [*RUN, "--results", "r", "--cluster", "slurm", "--processes", "2"]
    assert cli(*command, cwd=tmp_path).returncode == 0
    assert "cancelled" in cli("cancel", "--results", "r", cwd=tmp_path).stderr
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        statuses = {row["status"] for row in json.loads(cli("status", "--json", "--results", "r", cwd=tmp_path).stdout)}
        if statuses <= {"missing", "interrupted"}:
            break
    assert statuses <= {"missing", "interrupted"}
    assert "submitted 6 runs" in cli(*command, cwd=tmp_path).stderr
    assert "cancelled" in cli("cancel", "--results", "r", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"time": "12"}, "--time 12: write HH:MM:SS"),
        ({"nodes": 0}, "--nodes 0"),
        ({"nodes": 3, "gpus": 4}, "--gpus-per-run 4 on --nodes 3"),
    ],
)
def test_bad_requests_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Allocation(**{"partition": None, "time": "1:00:00", "nodes": 1, "gpus": 4, "processes": 4, **values})


def test_time_limits_are_read() -> None:
    assert [Allocation(None, t, 1, 0, 1).minutes for t in ("12:00:00", "1-00:00:00", "0:00:01")] == [720, 1440, 1]


def test_a_job_that_slurm_starts_again_takes_its_own_claim_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    here = Claims(tmp_path)
    held = here.take("k")
    assert held is not None
    here.path("k").write_text(json.dumps({**held.owner, "place": "the node it was on before"}))
    assert here.take("k") is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert here.take("k") is not None

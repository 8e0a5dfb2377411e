"""A sweep on a real SLURM, with runs preempted, killed and over their time limit, ends with the records of a local one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm_local
from helpers import Cli
from short_runs import question

from smt_bench.machine.spread import Spread
from smt_bench.records.store import Record, Store
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.slurm import NOTES, Allocation, Task, submit, submitted
from smt_bench.sweep.status import collect

SMOKE = ["run", "plateau", "--preset", "smoke", "--limit", "2"]
RUN = [*SMOKE, "--methods", "smt,full", "--seeds", "0,1,2", "--steps", "40"]
PARTS = ("key", "run", "status", "capacity", "training", "method", "heldout", "evaluation")


def cli(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "smt_bench", *args], capture_output=True, text=True, cwd=cwd, timeout=900, check=False
    )


@pytest.fixture
def cluster() -> Iterator[None]:
    pytest.importorskip("submitit", reason="the extra smt-bench[slurm] is not installed")
    why = slurm_local.missing()
    if why:
        pytest.skip(why)
    # SLURM makes sockets there, whose paths may have 107 letters only.
    with tempfile.TemporaryDirectory(prefix="slurm-") as place, slurm_local.slurm(Path(place)):
        yield


def restarts(job: str) -> int:
    shown = subprocess.run(["scontrol", "show", "job", job], check=True, capture_output=True, text=True).stdout
    return int(shown.split("Restarts=")[1].split()[0])


Row = dict[str, Any]


class Watched:
    """A results folder whose runs are waited for."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)

    def until(self, what: Callable[[Row], bool], seconds: float = 300) -> Row:
        """The first run that is so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for row in collect(self.store):
                if what(row):
                    return row
            time.sleep(0.2)
        raise TimeoutError(json.dumps(collect(self.store), indent=1))

    def all_done(self, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while {row["status"] for row in collect(self.store)} != {"done"}:
            assert time.monotonic() < deadline, json.dumps(collect(self.store), indent=1)
            time.sleep(0.5)

    def sent_away(self, row: Row, *why: str) -> None:
        """Has SLURM end a job that trains, and waits until it is started again; the run is held up until it is told."""
        os.kill(row["pid"], signal.SIGSTOP)
        try:
            subprocess.run(why, check=True, capture_output=True)
            (note,), deadline = submitted(self.store), time.monotonic() + 200
            log = self.store.root / NOTES / f"{note['tasks'][row['key']]}_0_log.out"
            while "Caught signal SIGUSR2" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        finally:
            os.kill(row["pid"], signal.SIGCONT)
        self.until(lambda now: now["key"] == row["key"] and restarts(row["job"]) > 0)


def same_as(local: Path, remote: Path) -> list[Record]:
    """The records of a sweep on the cluster, which are those of a local one."""
    expected = {r["key"]: {p: r[p] for p in PARTS} for r in Store(local).records()}
    found = Store(remote).records()
    assert {r["key"]: {p: r[p] for p in PARTS} for r in found} == expected
    return found


@pytest.mark.slurm
def test_six_runs_one_preempted_one_killed_one_over_its_time_limit(cluster: None, tmp_path: Path) -> None:
    done = cli(*RUN, "--results", "remote", "--cluster", "slurm", "--partition", "main", "--gpus-per-run", "2",
               "--time", "00:10:00", "--checkpoint-steps", "5", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0 and "submitted 6 runs as job" in done.stderr, done.stderr
    again = cli(*RUN, "--results", "remote", "--cluster", "slurm", "--gpus-per-run", "2", cwd=tmp_path)
    assert "nothing to submit" in again.stderr  # SLURM has them all
    remote, hit = Watched(tmp_path / "remote"), list[str]()

    def trains(row: Row) -> bool:
        return row["status"] == "running" and 5 <= row.get("checkpoint_step", 0) < 30 and row["key"] not in hit

    killed = remote.until(trains)
    os.kill(killed["pid"], signal.SIGKILL)
    hit.append(killed["key"])
    rows = json.loads(cli("status", "--json", "--results", "remote", cwd=tmp_path).stdout)
    assert {row["status"] for row in rows} <= {"running", "queued", "interrupted", "done"} and killed["job"]

    late = remote.until(trains)
    hit.append(late["key"])
    limit = ["scontrol", "update", f"JobId={late['job']}"]
    remote.sent_away(late, *limit, "TimeLimit=1")
    subprocess.run([*limit, "TimeLimit=10"], check=True, capture_output=True)

    preempted = remote.until(trains)
    hit.append(preempted["key"])
    remote.sent_away(preempted, "sbatch", "-p", "high", "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 1")

    remote.all_done()
    local = cli(*RUN, "--results", "local", "--processes", "2", cwd=tmp_path)
    assert local.returncode == 0, local.stderr
    for record in same_as(tmp_path / "local", tmp_path / "remote"):
        if record["key"] in hit:
            assert record["resumed_at_steps"], record["key"]
    assert "Table 3" in cli("table", "plateau", "--results", "remote", cwd=tmp_path).stdout


@pytest.mark.slurm
def test_one_run_over_two_nodes(cluster: None, tmp_path: Path) -> None:
    command = [*SMOKE, "--methods", "smt,spiel", "--steps", "20"]
    done = cli(*command, "--results", "remote", "--cluster", "slurm", "--partition", "wide", "--gpus-per-run", "2",
               "--nodes", "2", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0 and "submitted 2 runs as job" in done.stderr, done.stderr
    remote = Watched(tmp_path / "remote")
    running = remote.until(lambda row: row["status"] == "running")
    shown = subprocess.run(
        ["scontrol", "show", "job", running["job"]], check=True, capture_output=True, text=True
    ).stdout
    assert "NumNodes=2" in shown and "NodeList=first,second" in shown
    remote.all_done()
    assert cli(*command, "--results", "local", "--processes", "2", cwd=tmp_path).returncode == 0
    same_as(tmp_path / "local", tmp_path / "remote")


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
    ("options", "message"),
    [
        (["--time", "12"], "--time 12: write HH:MM:SS"),
        (["--nodes", "0"], "--nodes 0: choose a positive whole number"),
        (["--nodes", "3", "--gpus-per-run", "4"], "--gpus-per-run 4 on --nodes 3: choose a multiple"),
        (["--gpus-per-run", "4", "--processes", "8"], "--processes 8 on --gpus-per-run 4: choose at most one per GPU"),
        (["--jobs", "2"], "--jobs goes with one machine"),
    ],
)
def test_bad_requests_are_refused(options: list[str], message: str, cli: Cli) -> None:
    done = cli("run", "plateau", "--cluster", "slurm", *options)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_a_task_asks_for_its_share_of_every_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="the extra smt-bench[slurm] is not installed")
    for name, does in {"srun": "true", "sbatch": f"cp $1 {tmp_path}/asked; echo Submitted batch job 7"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    store, run, spread = Store(tmp_path / "r"), question("smt")[0], Spread(4, gpus_per_run=8, nodes=2)
    assert submit(tmp_path / "order.json", [run], store, Allocation("main", "2:00:00"), spread) == "7"
    asked = (tmp_path / "asked").read_text()
    for line in ("nodes=2", "gpus-per-node=4", "cpus-per-task=2", "time=120", "partition=main"):
        assert f"#SBATCH --{line}\n" in asked
    submit(tmp_path / "order.json", [run], store, Allocation(), Spread(2))
    assert "gpus" not in (tmp_path / "asked").read_text()
    assert [note["tasks"] for note in submitted(store)] == [{run.key: "7"}]


def test_processes_that_cannot_even_plan_leave_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = question("smt")[0]
    monkeypatch.setattr(Task, "_run", lambda *_: (2, ["error: data folder nowhere does not exist"]))
    assert Task(tmp_path / "gone.json", str(tmp_path), Spread(2))(run.key, run.to_dict()) == "failed"
    record = Store(tmp_path).read(run.key)
    assert record is not None and record["message"] == "its processes ended with exit code 2"
    assert record["traceback"] == ["error: data folder nowhere does not exist"]


def test_time_limits_are_read() -> None:
    assert [Allocation(time=t).minutes for t in ("12:00:00", "1-00:00:00", "0:00:01")] == [720, 1440, 1]


def test_a_job_that_slurm_starts_again_takes_its_own_claim_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    here = Locks(tmp_path)
    held = here.take("k")
    assert held is not None
    here.path("k").write_text(json.dumps({**held.owner, "place": "the node it was on before"}))
    assert here.take("k") is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert here.take("k") is not None

"""A sweep on SLURM, through submitit: one job array, one run per task, no service of ours.

A task starts the run's processes with torchrun on each of its nodes and watches them. SLURM's USR2, before preemption and
before the time limit, makes it stop them (they save their state) and requeue itself; it goes on from the checkpoint,
wherever it is started next. What has been submitted is noted beside the records, for `status` and `cancel`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smt_bench.machine.files import write_text
from smt_bench.machine.launch import torchrun
from smt_bench.machine.spread import Spread
from smt_bench.records.runs import Question, question
from smt_bench.records.store import Record, Store
from smt_bench.sweep.deaths import Deaths

NOTES = "logs/slurm"  # below the results folder: one file per array
LOG_LINES = 12
WARNING = 90  # seconds before a time limit at which SLURM sends USR2
GRACE = 60.0  # seconds for processes to save their state, and for SLURM to end a task whose processes it has ended
TERMINATED = "death signal"  # what torchrun says when it was sent SIGTERM itself
OVERTIME = 1000  # time limits that a run may exceed one after the other


@dataclass(frozen=True)
class Allocation:
    """Where and how long a task may run; what it needs says the run's `Spread`.

    Attributes:
        partition: None: the cluster's default.
        time: limit, as HH:MM:SS or D-HH:MM:SS.
    """

    partition: str | None = None
    time: str = "12:00:00"

    def __post_init__(self) -> None:
        _ = self.minutes

    @property
    def minutes(self) -> int:
        """The time limit, rounded up.

        Raises:
            ValueError: it is none.
        """
        found = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,4}):([0-5]\d):([0-5]\d)", self.time, re.ASCII)
        if found is None:
            raise ValueError(f"--time {self.time}: write HH:MM:SS, e.g. 12:00:00")
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        asked = (days * 24 + hours) * 60 + minutes + (seconds > 0)
        if asked < 1:
            raise ValueError(f"--time {self.time}: no run gets anywhere in no time: choose more, e.g. 12:00:00")
        return asked


def submit(order: Path, runs: Sequence[Question], store: Store, wanted: Allocation, spread: Spread) -> str:
    """Submits one array over `runs`; its job id.

    Args:
        order: what the tasks read; stays.
        runs: those to do.
        store: the results folder, which all nodes have to see under the same path.
        wanted: of every task.
        spread: of every run.

    Raises:
        ValueError: submitit or SLURM is not there, or refuses.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError("--cluster slurm needs submitit: pip install 'smt-bench[slurm]'") from None
    folder = (store.root / NOTES).absolute()
    try:
        # USR2 would end a task that has only just started and has no handler yet; preemption then ends it a little later.
        python = f"env --ignore-signal=USR2 {shlex.quote(sys.executable)}"
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=OVERTIME, python=python)
        gpus = {"gpus_per_node": spread.gpus_per_run // spread.nodes} if spread.gpus_per_run else {}
        executor.update_parameters(
            job_name="smt-bench",
            time=wanted.minutes,
            nodes=spread.nodes,
            ntasks_per_node=1,
            cpus_per_task=spread.processes // spread.nodes,
            signal_delay_s=min(WARNING, 20 * wanted.minutes),
            stderr_to_stdout=True,
            additional_parameters={"requeue": True, **({"partition": wanted.partition} if wanted.partition else {})},
            **gpus,
        )
        task = Task(order, str(store.root.absolute()), spread)
        jobs = executor.map_array(task, [run.key for run in runs], [run.to_dict() for run in runs])
    except (RuntimeError, submitit.core.utils.FailedJobError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"SLURM took no job ({lines[-1] if lines else type(error).__name__}): check the options"
        ) from None
    array = jobs[0].job_id.partition("_")[0]
    note = {
        "job": array,
        "submitted": datetime.now(UTC).isoformat(timespec="seconds"),
        "order": str(order),
        "tasks": {run.key: job.job_id for run, job in zip(runs, jobs)},
    }
    write_text(folder / f"{array}.json", json.dumps(note, indent=1) + "\n")
    return array


def submitted(store: Store) -> list[dict[str, Any]]:
    """What was submitted from this results folder, oldest first."""
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in (store.root / NOTES).glob("*.json")]
    return sorted(notes, key=lambda note: note["submitted"])


def queued(store: Store) -> dict[str, dict[str, str]]:
    """Runs that SLURM still has, by key: task (`job`) and SLURM's `state`, e.g. PENDING; empty where SLURM is not here."""
    tasks = {job: key for note in submitted(store) for key, job in note["tasks"].items()}
    if not tasks:
        return {}
    try:
        # -r: one line per task, also of those that wait.
        asked = ["squeue", "--noheader", "-r", "--me", "--format=%i %T"]
        listed = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for line in listed.splitlines():
        job, state = line.split()
        if job in tasks:
            found[tasks[job]] = {"job": job, "state": state}
    return found


def cancel(store: Store) -> list[str]:
    """Cancels what SLURM still has of this folder's runs, which save their state; the ids of the tasks.

    Raises:
        ValueError: SLURM refuses.
    """
    jobs = sorted(entry["job"] for entry in queued(store).values())
    if jobs:
        try:
            subprocess.run(["scancel", *jobs], capture_output=True, text=True, check=True, timeout=60)
        except subprocess.CalledProcessError as error:
            raise ValueError(f"scancel: {error.stderr.strip()}") from None
    return jobs


class Task:
    """What every element of the array does: starts a run's processes on this node and waits for them.

    Args:
        order: what to do.
        results: the results folder.
        spread: of the run over processes and nodes.
    """

    def __init__(self, order: Path, results: str, spread: Spread) -> None:
        self.order, self.results, self.spread = order, results, spread
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, key: str, asked: dict[str, Any]) -> str:
        """Until the run `key` has a record, whose status it returns; `asked` is the run, should it fail to be planned here.

        Processes that die without one are started again, as long as the run's checkpoint moves on.
        """
        store = Store(Path(self.results))
        deaths = Deaths(store)
        while True:
            code, said = self._run(key, store.root / "logs" / f"run-{key}-{os.environ.get('SLURM_PROCID', '0')}.log")
            record = self._record(store, key, patient=code == 0)
            if record is not None:
                return str(record["status"])
            if any(TERMINATED in line for line in said):  # this task was sent SIGTERM too, and is about to be ended
                time.sleep(GRACE)
            if not deaths.again(key):
                from smt_bench.sweep.deaths import failure

                why = f"its processes ended with exit code {code}"
                store.write(failure(question(asked), why, said[-LOG_LINES:]))
                return "failed"

    @staticmethod
    def _record(store: Store, key: str, patient: bool) -> Record | None:
        """The run's record; where its processes ended well, the file server is given time to show it to this node."""
        end = time.monotonic() + (GRACE if patient else 0)
        while (record := store.read(key)) is None and time.monotonic() < end:
            time.sleep(1)
        return record

    def checkpoint(self, key: str, asked: dict[str, Any]) -> Any:
        """Called by submitit on USR2: ends the processes, which save their state, and asks for the same again."""
        import submitit

        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            end = time.monotonic() + GRACE
            while self._child.poll() is None and time.monotonic() < end:
                time.sleep(0.2)
        return submitit.helpers.DelayedSubmission(Task(self.order, self.results, self.spread), key, asked)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_child": None}

    def _run(self, key: str, log: Path) -> tuple[int, list[str]]:
        """One start of the processes; torchrun's exit code and all that was said."""
        import submitit

        here = submitit.JobEnvironment()
        node = ["--standalone"]
        if here.num_nodes > 1:
            port = 20000 + int(os.environ["SLURM_JOB_ID"]) % 20000
            node = [f"--nnodes={here.num_nodes}", f"--node-rank={here.node}"]
            node += [f"--master-addr={_address(here.hostnames[0])}", f"--master-port={port}"]
        command = torchrun(self.spread.processes // here.num_nodes, node)
        command += ["-m", "smt_bench", "work", str(self.order), "--only", key]
        # Weights and data were fetched by `run`: nodes without internet must not wait for it.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            start = out.tell()
            self._child = subprocess.Popen(command, stdout=out, stderr=out, env=environment, preexec_fn=_ignore_usr2)
        while (code := self._child.poll()) is None:  # a blocking wait would hold up `checkpoint`
            time.sleep(0.5)
        with log.open("rb") as written:
            written.seek(start)
            return code, written.read().decode(errors="replace").splitlines()


def _address(node: str) -> str:
    """Where SLURM finds a node, whose name need not be one that other nodes can resolve."""
    shown = subprocess.run(["scontrol", "show", "node", node], capture_output=True, text=True, check=False).stdout
    found = re.search(r"NodeAddr=(\S+)", shown)
    return found[1] if found else node


def _ignore_usr2() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends it to every process; only the task acts on it

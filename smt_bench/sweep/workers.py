"""Several runs at a time on one machine: worker processes, each with its share of the GPUs, restarted when they die."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from smt_bench.machine.launch import PATIENCE, torchrun
from smt_bench.machine.signals import EXIT_CODE, Stop
from smt_bench.machine.spread import Spread
from smt_bench.records.index import describe
from smt_bench.records.runs import Question
from smt_bench.records.store import FINISHED, Store
from smt_bench.sweep.deaths import Deaths, failure
from smt_bench.sweep.locks import PARENT, WORKER, Locks
from smt_bench.sweep.loop import Interrupted
from smt_bench.sweep.progress import Bars, outcome

POLL = 0.3  # seconds between looks at the workers
LOG_LINES = 12  # of a dead worker, kept in the record
Slot = dict[str, str]  # environment variables of one worker


def slots(jobs: int, spread: Spread, environment: Mapping[str, str]) -> list[Slot]:
    """Shares GPUs, or cores where there are none, out among so many workers.

    Args:
        jobs: workers.
        spread: of each; without a number of GPUs, one per process, or, with one process, all evenly shared out.
        environment: this process's.

    Returns:
        What each worker's environment has besides this one's; one empty slot where this process is enough.

    Raises:
        ValueError: too few GPUs.
    """
    import torch

    listed = environment.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    gpus = (
        [name for name in listed.split(",") if name][:count] if listed is not None else [str(i) for i in range(count)]
    )
    processes, gpus_per_run = spread.processes, spread.gpus_per_run
    if processes > 1 and gpus:
        if gpus_per_run not in (None, processes):
            raise ValueError(f"--processes {processes} with --gpus-per-run {gpus_per_run}: each process has one GPU")
        gpus_per_run = processes
    if gpus_per_run is not None and jobs * gpus_per_run > len(gpus):
        raise ValueError(
            f"--jobs {jobs} with --gpus-per-run {gpus_per_run} needs {jobs * gpus_per_run} GPUs, {len(gpus)} are "
            "visible: choose fewer"
        )
    if gpus and jobs > len(gpus):
        raise ValueError(f"--jobs {jobs}, but {len(gpus)} GPUs are visible: choose at most that many")
    if jobs == processes == 1 and gpus_per_run is None:
        return [{}]
    if gpus:
        share = gpus_per_run or len(gpus) // jobs
        return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[i * share : (i + 1) * share])} for i in range(jobs)]
    if "OMP_NUM_THREADS" in environment:
        return [{} for _ in range(jobs)]
    threads = max(1, (os.cpu_count() or 1) // (jobs * processes))
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(jobs)]


@dataclass
class Worker:
    """A worker process.

    Attributes:
        name: as in the locks it holds.
        slot: its share of the machine.
        log: where it writes what it has to say.
        process: the process itself.
        waiting: runs without a record when it was started.
    """

    name: str
    slot: Slot
    log: Path
    process: subprocess.Popen[bytes]
    waiting: int

    @classmethod
    def start(cls, name: str, command: Sequence[str], slot: Slot, log: Path, waiting: int) -> Worker:
        """Starts it in a session of its own: a Ctrl-C reaches only the sweep, which asks its workers once."""
        environment = {**os.environ, **slot, WORKER: name, PARENT: str(os.getpid())}
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
            )  # fmt: skip
        return cls(name, slot, log, process, waiting)

    def last_lines(self) -> list[str]:
        """The end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return text.splitlines()[-LOG_LINES:]


def _command(order: Path, spread: Spread) -> list[str]:
    """What a worker runs: the order, in one process or through torchrun in several."""
    work = ["-m", "smt_bench", "work", str(order)]
    return [sys.executable, *work] if spread.processes == 1 else [*torchrun(spread.processes), *work]


def supervise(
    order: Path,
    spread: Spread,
    places: Sequence[Slot],
    runs: Sequence[Question],
    store: Store,
    console: Console,
    stop: Stop,
) -> Counter[str]:
    """Starts a worker per place and waits until every run has a record.

    A worker that dies (a crash in native code, the kernel's out-of-memory killer) is replaced. The run it was on goes on from
    its checkpoint; where it dies again without having come further it has failed, with the last lines of the log.

    Args:
        order: what the workers do; removed at the end.
        spread: of each run over its worker's processes.
        places: their shares of the machine.
        runs: all of them.
        store: where the records are.
        console: for progress.
        stop: whether this process was asked to leave.

    Returns:
        As `sweep`.

    Raises:
        Interrupted: asked to leave; the workers have saved their states.
        ValueError: a worker refused to work; its reason.
    """
    counts: Counter[str] = Counter()
    waiting, names = list(runs), describe(runs)
    workers: list[Worker] = []
    deaths, started = Deaths(store), 0
    # Sweeps on other machines and in other containers write into the same folders, and have the same process ids.
    sweep = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"

    def start(slot: Slot) -> None:
        nonlocal started
        started += 1
        name = f"{sweep}-{started}"
        log = store.root / "logs" / f"worker-{name}.log"
        workers.append(Worker.start(name, _command(order, spread), slot, log, len(waiting)))

    with Bars(console, len(runs)) as bars:

        def look(first: bool = False) -> None:
            for run in list(waiting):
                record = store.read(run.key)
                if record is None:
                    continue
                waiting.remove(run)
                there = first and record["status"] in FINISHED
                counts["there" if there else record["status"]] += 1
                bars.finish("" if first else f"{names[run.key]}: {outcome(record)}")

        try:
            look(first=True)
            if waiting:
                for slot in places[: len(waiting)]:
                    start(slot)
            while workers:
                time.sleep(POLL)
                stop.check()
                look()
                for worker in list(workers):
                    code = worker.process.poll()
                    if code is None:
                        continue
                    workers.remove(worker)
                    if code == 0:
                        worker.log.unlink(missing_ok=True)
                    crashed = code not in (0, 2, EXIT_CODE) and _crashed(worker, code, waiting, store, deaths)
                    look()
                    idle = len(waiting) == worker.waiting and not crashed
                    if code == 2 or (code != 0 and idle):  # another one would do no better
                        said = [line for line in worker.last_lines() if line.startswith("error: ")]
                        reason = said[-1].removeprefix("error: ") if said else f"a worker failed: see {worker.log}"
                        raise ValueError(reason)
                    if code != 0 and waiting:
                        start(worker.slot)
        except KeyboardInterrupt:
            done = sum(counts[status] for status in ("there", *FINISHED))
            raise Interrupted(f"{done} of {len(runs)} runs are finished") from None
        finally:
            with stop.held():  # a second Ctrl-C within a second is the first one
                _end(workers)
                order.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    (store.root / "logs").rmdir()  # where nothing went wrong
    return counts


def _crashed(worker: Worker, code: int, runs: Sequence[Question], store: Store, deaths: Deaths) -> bool:
    """Whether a dead worker was on a run, which is left to the next one, or has failed."""
    locks, found = Locks(store.runs), False
    how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
    for process in psutil.process_iter():  # those that torchrun left behind when it was killed itself
        with contextlib.suppress(psutil.Error):
            if process.environ().get(WORKER) == worker.name:
                process.kill()
    for run in runs:
        owner = locks.owner(run.key)
        if owner is not None and owner.get("worker") == worker.name:
            found = True
            if store.read(run.key) is None and not deaths.again(
                run.key
            ):  # one of several processes may have written why
                store.write(failure(run, f"its process ended with {how}", worker.last_lines()))
            locks.drop(run.key)
    return found


def _end(workers: Sequence[Worker]) -> None:
    """Asks the workers to leave, and waits."""
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.process.pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    for worker in workers:
        try:
            worker.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.process.pid, signal.SIGKILL)

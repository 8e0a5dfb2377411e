"""Real processes, killed with SIGKILL: at random moments, and at the worst ones. Nothing is lost, doubled or different."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forks import OUTCOME, finish, start
from rich.console import Console

from smt_bench.execute import execute
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.machine.signals import Stop
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.records.store import Store
from smt_bench.sweep.loop import sweep
from smt_bench.training.resume import Keeper, Pace

METHODS = ("smt", "spiel", "spiel-ma", "dora", "full")
MOVES = {"update_every": 3, "estimate_steps": 2}
PHASES = {"smt": {"warmup_steps": 3}, "spiel": MOVES, "spiel-ma": MOVES}


def planned(
    seeds: tuple[int, ...] = (0,), names: tuple[str, ...] = METHODS, steps: int = 8
) -> tuple[list[Run], Inputs]:
    request = Request("plateau", "tiny", preset="smoke", methods=names, seeds=seeds, steps=steps, limit=1)
    planner = Planner(request, fits.here())
    planner.open()
    runs = []
    for run, _ in Plateau().runs(planner):
        method = replace(run.method, config={**run.method.config, **PHASES.get(run.method.name, {})})
        runs.append(replace(run, method=method, train=replace(run.train, batch_size=8, micro_batch_size=8)))
    return runs, planner.inputs()


def process(
    folder: Path, runs: list[Run], inputs: Inputs, spot: str | None = None, journal: Path | None = None
) -> None:
    """One `run` process on a results folder; killed at `spot`; says in `journal` which runs it begins."""
    if spot is not None:
        SPOTS[spot]()
    stop = Stop()

    def perform(run: Run, watch: Any, keeper: Keeper) -> Any:
        if journal is not None:
            with journal.open("a") as file:
                file.write(f"{run.key} {os.getpid()}\n")
        return execute(run, replace(inputs, watch=watch, keeper=keeper))

    with stop.installed():
        sweep(runs, Store(folder), perform, Console(file=io.StringIO()), stop, Pace(steps=1))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_in(module: Any, name: str, call: int = 1, after: bool = False) -> None:
    """Kills this process in the nth call of a function."""
    original, calls = getattr(module, name), [0]

    def deadly(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        result = original(*args, **kwargs) if after or calls[0] != call else None
        if calls[0] == call:
            die()
        return result

    setattr(module, name, deadly)


def _in_warmup() -> None:
    from smt_bench.methods.smt.method import Smt

    _die_in(Smt, "observe", 2)


def _between_selection_and_conversion() -> None:
    from smt_bench.methods.smt import method

    _die_in(method, "select", after=True)


def _writing_a_checkpoint() -> None:
    from smt_bench.training import checkpoint

    _die_in(checkpoint, "_file_hash", 5)  # written, not yet renamed


def _before_merging() -> None:
    from smt_bench.methods.smt.method import Smt

    _die_in(Smt, "merge")


def _in_evaluation() -> None:
    from smt_bench.execute import judging

    _die_in(judging, "evaluate", after=True)


def _writing_the_record() -> None:
    from smt_bench.records import files

    _die_in(files.os, "replace")  # of the whole process: only records and progress are written with it


def _after_the_record() -> None:
    _die_in(Store, "write", after=True)


SPOTS = {
    f.__name__[1:]: f
    for f in (
        _in_warmup, _between_selection_and_conversion, _writing_a_checkpoint, _before_merging, _in_evaluation,
        _writing_the_record, _after_the_record,
    )
}  # fmt: skip


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """What the records say, without what merely happened."""
    kept = ("schema", "message", *OUTCOME)
    records = [json.loads(p.read_text()) for p in (folder / "runs").glob("*.json")]
    return {r["key"]: {part: r[part] for part in kept} for r in records}


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def stored(runs: list[Run]) -> list[str]:
    """What a finished sweep leaves behind: records, and beside each which test items they are about."""
    return sorted(f"runs/{run.key}{suffix}" for run in runs for suffix in (".json", ".examples.json.gz"))


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Run], Inputs, dict[str, Any], float]:
    """Four runs, uninterrupted, and the seconds they took here."""
    runs, inputs = planned()
    folder = tmp_path_factory.mktemp("smooth")
    begun = time.monotonic()
    assert finish(process, folder, runs, inputs) == 0
    took = time.monotonic() - begun
    found = results(folder)
    assert set(found) == {run.key for run in runs} and {r["status"] for r in found.values()} == {"done"}
    return runs, inputs, found, took


@pytest.mark.parametrize("least", [6, pytest.param(20, marks=pytest.mark.long)])
def test_killed_at_random_moments(least: int, smooth: Any, tmp_path: Path) -> None:
    runs, inputs, expected, took = smooth
    rng = random.Random(0)
    kills, rounds, resumed = 0, 0, 0
    while kills < least or not resumed:  # a kill before the first checkpoint leaves nothing to resume: then three more
        assert rounds < 20, "the kills hit nothing that had to be resumed"
        folder = tmp_path / str(rounds)
        rounds += 1
        enough = max(least, kills + 3)
        while True:
            child = start(process, folder, runs, inputs)
            child.join(rng.uniform(0.1, took / 3) if kills < enough else 300)
            if child.exitcode is not None:
                break
            child.kill()
            child.join()
            kills += 1
        assert child.exitcode == 0
        assert results(folder) == expected
        assert files(folder) == stored(runs)
        resumed += sum("resumed_at_steps" in r for r in Store(folder).records())


@pytest.mark.parametrize("spot", SPOTS)
def test_killed_at_the_worst_moments(spot: str, smooth: Any, tmp_path: Path) -> None:
    runs, inputs, expected, _ = smooth
    run = next(run for run in runs if run.method.name == "smt")
    assert finish(process, tmp_path, [run], inputs, spot) == -signal.SIGKILL
    assert finish(process, tmp_path, [run], inputs) == 0
    assert results(tmp_path) == {run.key: expected[run.key]}
    assert files(tmp_path) == stored([run])


def test_four_processes_share_twelve_runs_and_two_are_killed(tmp_path: Path) -> None:
    runs, inputs = planned(seeds=(0, 1, 2), steps=5)
    folder, journal = tmp_path / "results", tmp_path / "journal"
    children = [start(process, folder, runs, inputs, None, journal) for _ in range(4)]
    lines: list[list[str]] = []
    dead = children[:2]
    for child in dead:
        while str(child.pid) not in {pid for _, pid in lines}:  # it is on a run now
            lines = [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
            assert child.is_alive()
        child.kill()
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [-signal.SIGKILL] * 2 + [0, 0]
    found = results(folder)
    assert set(found) == {run.key for run in runs} and {r["status"] for r in found.values()} == {"done"}
    assert files(folder) == stored(runs)
    lines = [line.split() for line in journal.read_text().splitlines()]
    lost = {str(child.pid) for child in dead}
    for run in runs:  # begun once, or again after its process was killed
        pids = [pid for key, pid in lines if key == run.key]
        assert pids and set(pids[:-1]) <= lost, pids
    assert len({pid for _, pid in lines}) == 4

"""Runs of a few steps on `tiny`, in one session or in several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from smt_bench import methods
from smt_bench.execute import execute
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.machine.signals import Stop
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.training.checkpoint import Checkpoints
from smt_bench.training.resume import Keeper, Pace

STEPS = 6


SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "dora": {},  # with dropout: the generators count
    "smt": {"warmup_steps": 3},
    "smt-frozen": {"warmup_steps": 3, "warmup_trains": False},
    "smt-frozen-matrices": {"warmup_steps": 3, "warmup_trains": False, "metric": "abs_mean"},
    "smt-activation": {"warmup_steps": 3, "metric": "activation"},
    "smt-channels": {"warmup_steps": 3, "metric": "activation_channels"},
    "spiel": {"update_every": 3, "estimate_steps": 2},
    "spiel-ma": {"update_every": 3, "estimate_steps": 2},
    "fish": {"warmup_steps": 3},
    "lt-sft": {"warmup_share": 0.5},
    "diff-pruning": {"warmup_share": 0.5},
    "s2ft": {},
}


def question(case: str, precision: str = "fp32") -> tuple[Run, Inputs]:
    name = case if case in methods.REGISTRY.names() else case.partition("-")[0]
    request = Request("plateau", "tiny", preset="smoke", methods=(name,), steps=STEPS, limit=2, precision=precision)
    planner = Planner(request, fits.here())
    planner.open()
    run, _ = Plateau().runs(planner)[0]
    config = {**run.method.config, **SETTINGS[case]}
    train = replace(run.train, batch_size=8, micro_batch_size=4)
    return replace(run, method=replace(run.method, config=config), train=train), planner.inputs()


def result(record: dict[str, Any]) -> tuple[Any, ...]:
    assert record["status"] == "done", record["message"]
    return tuple(record[part] for part in ("training", "method", "heldout", "evaluation"))


def session(run: Run, inputs: Inputs, folder: Path, stop_after: int | None, pace: Pace | None = None) -> Any:
    """One process's share: goes on from the last checkpoint, and is asked to stop after so many steps of its own."""
    stop = Stop()
    seen = []

    def watch(phase: str, done: int, total: int, note: str = "") -> None:
        if phase == "train":
            seen.append(done)
            stop.asked = len(seen) == stop_after

    keeper = Keeper(Checkpoints(folder), pace or Pace(), stop)
    return execute(run, replace(inputs, watch=watch, keeper=keeper))

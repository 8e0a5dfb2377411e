"""Does a run that is stopped go on bit by bit, on this device? The engine's own loop on the embedded model, no evaluation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from smt_bench import methods
from smt_bench.checks.report import Findings
from smt_bench.execute import training_loop
from smt_bench.machine import determinism, fits
from smt_bench.machine.memory import release
from smt_bench.models.build import load
from smt_bench.questions.capacity import method_of
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.training.checkpoint import Checkpoints, fingerprint
from smt_bench.training.resume import Keeper, Pace

STEPS, SAVED, STOPPED = 12, 5, 7  # of the run; where its state is saved, and where it ends all the same
METHODS = ("full", "smt", "spiel", "lora", "dora")
FRACTION = 0.02


class _Stopped(Exception):
    pass


def resume(found: Findings, device: torch.device, names: tuple[str, ...] = METHODS) -> None:
    """Twelve steps against seven, stopped, and the rest from the state of step five; under what `--deterministic` sets."""
    machine = fits.here() if device.type == "cuda" else replace(fits.here(), gpus=())
    planner = Planner(Request("plateau", "tiny", steps=STEPS), machine)
    planner.open()
    for name in names:
        # The option itself, and not its warnings: an operation that it refuses ends a run as well.
        with found.guarded("resume", name), determinism.switched_on():
            run, _ = planner.run(name, FRACTION if methods.find(name).takes_fraction else None, 0)
            _one(found, name, run, planner, device)


def _one(found: Findings, name: str, run: Run, planner: Planner, device: torch.device) -> None:
    def go(keeper: Keeper, stop: int | None = None) -> tuple[dict[str, str], list[float]]:
        return trained(run, planner, device, keeper, stop)

    whole, again = go(Keeper()), go(Keeper())
    with tempfile.TemporaryDirectory() as folder:
        try:
            go(Keeper(Checkpoints(Path(folder)), Pace(SAVED)), STOPPED)
            raise AssertionError(f"step {STOPPED} did not come")
        except _Stopped as stopped:
            release(stopped)
        keeper = Keeper(Checkpoints(Path(folder)), Pace(SAVED))
        rest = go(keeper)
    # After a warm-up that trained, its end is saved as well.
    assert keeper.resumed and 0 < keeper.resumed[0] < STOPPED, f"went on after step {keeper.resumed or 'none'}"
    repeats, resumes = whole == again, whole == rest
    far = max(abs(a - b) / abs(a) for a, b in zip(whole[1], rest[1], strict=True))
    says = "resumed bit by bit" if resumes else f"losses after resuming differ by up to {far:.1e}"
    if not repeats:
        says += "; an uninterrupted repeat is not bit by bit the same either"
    found.add(
        "resume", name, "pass" if repeats and resumes else "FAIL", f"{run.train.precision}: {says}",
        repeats=repeats, resumes=resumes, loss=far,
    )  # fmt: skip


def trained(
    run: Run, planner: Planner, device: torch.device, keeper: Keeper, stop: int | None
) -> tuple[dict[str, str], list[float]]:
    """A run's training: hashes of all tensors at its end, and its losses.

    Args:
        run: which.
        planner: with its data.
        device: where.
        keeper: of its states.
        stop: step at which it is broken off; None: it goes to its end.
    """
    inputs = replace(planner.inputs(), keeper=keeper)
    model, tokenizer = load(inputs.located, run.train.precision, base=run.train.base, device=device)
    method, _ = method_of(run, {k: tuple(v.shape) for k, v in model.named_parameters()})
    loop: Any = training_loop(run, inputs, model, tokenizer, method, device)
    if stop is not None:
        loop.on_step = _breaks(stop)
    losses = list(loop.train(lambda: None).losses)
    hashes = {k: fingerprint(v) for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    return hashes, losses


def _breaks(at: int) -> Callable[[int, float], None]:
    def on_step(step: int, loss: float) -> None:
        if step == at:
            raise _Stopped

    return on_step

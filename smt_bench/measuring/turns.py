"""Training steps of several methods, taken in turns and timed part by part.

Timing one method after the other measures the machine's mood as much as the methods. Here every round takes one step of
each, in a rotating order, in one process, with the engine's own loss, optimizer and hooks, on one batch of random tokens.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from smt_bench.data.batches import Batch
from smt_bench.data.prompts import IGNORED
from smt_bench.measuring.flops import count_flops
from smt_bench.methods.base import Method, OptimizerSettings, ParamGroup
from smt_bench.models import build
from smt_bench.training.loss import enable_checkpointing, response_loss
from smt_bench.training.optimizer import Updater

CLIP = 1.0  # as in every recipe; clipping reads all gradients, so it is part of a step's cost
PHASES = ("forward", "backward", "hooks", "optimizer")
Seconds = dict[str, float]


def random_model(name: str, precision: str, device: torch.device, seed: int) -> Any:
    """The architecture with random weights, in "fp32" or "bf16"."""
    torch.manual_seed(seed)
    return build.build(name, str(device)).to(torch.bfloat16 if precision == "bf16" else torch.float32)


def random_batch(model: str, batch_size: int, length: int, seed: int, device: torch.device) -> Batch:
    """(B, T) random tokens of the model's vocabulary, every position but the last with a label."""
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.randint(build.config(model).vocab_size, (batch_size, length), generator=generator)
    labels_BT = torch.full_like(ids_BT, IGNORED)
    labels_BT[:, :-1] = ids_BT[:, 1:]
    return Batch(ids_BT.to(device), labels_BT.to(device), batch_size * (length - 1), ids_BT.numel())


@dataclass
class Contestant:
    """One method that takes steps.

    Attributes:
        name: its label in the results.
        method: hooks; None for a model that only computes loss and gradients of activations.
        build: makes the model, always with the same weights.
        warmup: stay in the method's warm-up for good, in place of attaching after `selecting` steps of it.
        selecting: warm-up steps before attaching.
        prepare: for contestants without a method: makes something require gradients.
        seconds: of the selection, once it was made: scores, choice and conversion of the layers.
    """

    name: str
    method: Method | None
    build: Callable[[], Any]
    warmup: bool = False
    selecting: int = 2
    prepare: Callable[[nn.Module], Any] | None = None
    seconds: float | None = None

    def open(self, batch: Batch, settings: OptimizerSettings, checkpointing: bool) -> None:
        """Builds the model and brings it to where its steps are to be timed."""
        self.model, self.batch, self.settings = self.build(), batch, settings
        if checkpointing:
            enable_checkpointing(self.model)
        self.number = 0
        self.updater: Updater | None = None
        self.in_warmup = self.method is not None and self.method.warmup_steps > 0
        if self.method is None:
            assert self.prepare is not None
            self.prepare(self.model)
            return
        if self.in_warmup:
            self._update_by(self.method.warmup(self.model))
            if self.warmup:
                return
            for _ in range(self.selecting):
                self.step()
            self.in_warmup = False
            self.updater = None
        start = _now()
        groups = self.method.attach(self.model)
        self.seconds = _now() - start
        self._update_by(groups)

    def close(self) -> None:
        """Frees everything."""
        del self.model, self.updater
        gc.collect()

    def step(self) -> Seconds:
        """One optimizer step; seconds per phase."""
        self.number += 1
        method, model, taken = self.method, self.model, dict.fromkeys(PHASES, 0.0)
        with _lap(taken, "hooks"):
            if method is not None and not self.in_warmup:
                method.before_step(model, self.number)
        with _lap(taken, "forward"):
            loss = self.loss()
        with _lap(taken, "backward"):
            loss.backward()
        with _lap(taken, "hooks"):
            if method is not None:
                (method.observe if self.in_warmup else method.after_backward)(model, self.number)
        if self.updater is None:
            model.zero_grad(set_to_none=True)
            return taken
        assert method is not None
        with _lap(taken, "optimizer"):
            torch.nn.utils.clip_grad_norm_(self.updater.params, CLIP)
            self.updater.step(1.0)
        with _lap(taken, "hooks"):
            if not self.in_warmup:
                method.after_step(model, self.updater.optimizer, self.number)
        return taken

    def loss(self) -> torch.Tensor:
        """Mean cross-entropy, as in training."""
        return response_loss(self.model, self.batch) / self.batch.targets

    def flops(self) -> dict[str, int]:
        """Of one forward and one backward pass; leaves no gradients behind."""
        if self.method is not None and not self.in_warmup:
            self.method.before_step(self.model, self.number + 1)
        with count_flops() as so_far:
            loss = self.loss()
            forward = so_far()
            loss.backward()
            counted = {"forward": forward, "backward": so_far() - forward}
        self.model.zero_grad(set_to_none=True)
        return counted

    def _update_by(self, groups: list[ParamGroup]) -> None:
        assert self.method is not None
        self.updater = Updater(self.method, groups, self.settings) if groups else None


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    batch: Batch,
    settings: OptimizerSettings,
    checkpointing: bool,
    resident: bool,
    on_step: Callable[[int, int, str], None],
) -> tuple[dict[str, list[Seconds]], dict[str, dict[str, int]]]:
    """Steps of all contestants in a rotating order.

    Args:
        contestants: who competes.
        rounds: timed steps of each.
        batch: the same for all.
        settings: of the optimizers.
        checkpointing: recompute activations.
        resident: whether all models fit into memory together; else each is built anew for every third of its rounds.
        on_step: called with (steps done, steps in all, name).

    Returns:
        Seconds per phase of every timed step, and FLOPs of a step, by contestant.
    """
    taken: dict[str, list[Seconds]] = {c.name: [] for c in contestants}
    flops: dict[str, dict[str, int]] = {}
    total = rounds * len(contestants)

    def timed(contestant: Contestant, steps: int) -> None:
        for _ in range(steps):
            taken[contestant.name].append(contestant.step())
            on_step(sum(map(len, taken.values())), total, contestant.name)

    def ready(contestant: Contestant) -> None:
        contestant.open(batch, settings, checkpointing)
        flops.setdefault(contestant.name, contestant.flops())
        contestant.step()  # not counted: first calls allocate optimizer state and pick kernels

    if resident:
        for contestant in contestants:
            ready(contestant)
        for number in range(rounds):
            shift = number % len(contestants)
            for contestant in (*contestants[shift:], *contestants[:shift]):
                timed(contestant, 1)
        for contestant in contestants:
            contestant.close()
        return taken, flops
    visits = min(3, rounds)
    for visit in range(visits):
        for contestant in contestants:
            ready(contestant)
            timed(contestant, (rounds * (visit + 1)) // visits - (rounds * visit) // visits)
            contestant.close()
    return taken, flops


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _lap(taken: Seconds, phase: str) -> Iterator[None]:
    start = _now()
    yield
    taken[phase] += _now() - start


def interleave(pieces: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every round of every piece, all pieces in turns, after one uncounted round.

    Args:
        pieces: what to time, by name.
        rounds: timed calls of each.
    """
    taken: dict[str, list[float]] = {name: [] for name in pieces}
    for number in range(rounds + 1):
        for name, piece in pieces.items():
            start = _now()
            piece()
            if number:
                taken[name].append(1e3 * (_now() - start))
    return taken

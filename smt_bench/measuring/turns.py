"""Training steps of several methods, taken in turns and timed part by part.

Timing one method after the other measures the machine's mood as much as the methods. Here every round takes one step of
each, in a rotating order, in one process, on one batch of random tokens: the very step that training takes (`training.step`).
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
from smt_bench.methods.base import Method, MethodConfig, OptimizerSettings, ParamGroup
from smt_bench.methods.full import Base
from smt_bench.models import build
from smt_bench.training.instrument import Instrument, Region
from smt_bench.training.loss import enable_checkpointing
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.step import Stage, Step

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
    ids_BT = torch.randint(build.config(model).get_text_config().vocab_size, (batch_size, length), generator=generator)
    labels_BT = torch.full_like(ids_BT, IGNORED)
    labels_BT[:, :-1] = ids_BT[:, 1:]
    return Batch(ids_BT.to(device), labels_BT.to(device), batch_size * (length - 1), ids_BT.numel())


class Laps(Instrument):
    """Seconds by phase; clipping belongs to the optimizer's."""

    def __init__(self) -> None:
        self.taken: Seconds = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def around(self, region: Region) -> Iterator[None]:
        """Adds the region's seconds."""
        start = _now()
        yield
        self.taken["optimizer" if region == "clip" else region] += _now() - start


class Operations(Instrument):
    """Floating-point operations of the forward and the backward pass.

    Args:
        so_far: tells how many were counted.
    """

    def __init__(self, so_far: Callable[[], int]) -> None:
        self.so_far = so_far
        self.counted = {"forward": 0, "backward": 0}

    @contextmanager
    def around(self, region: Region) -> Iterator[None]:
        """Adds the region's operations."""
        start = self.so_far()
        yield
        if region in self.counted:
            self.counted[region] += self.so_far() - start


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
        self.in_warmup = self.method is not None and self.method.warmup_steps > 0
        if self.method is None:
            assert self.prepare is not None
            self.prepare(self.model)
            self._take_up("warmup", [])
            return
        if self.in_warmup:
            self._take_up("warmup", self.method.warmup(self.model))
            if self.warmup:
                return
            for _ in range(self.selecting):
                self.step()
            self.in_warmup = False
            del self._step  # and with it the optimizer
        start = _now()
        groups = self.method.attach(self.model)
        self.seconds = _now() - start
        self._take_up("tuning", groups)

    def close(self) -> None:
        """Frees everything."""
        del self.model, self._step
        gc.collect()

    def step(self) -> Seconds:
        """One optimizer step; seconds per phase."""
        laps = Laps()
        self._take(laps)
        return laps.taken

    def count(self) -> dict[str, int]:
        """Takes a step as well; FLOPs of its forward and its backward pass."""
        with count_flops() as so_far:
            counter = Operations(so_far)
            self._take(counter)
        return counter.counted

    def loss(self) -> torch.Tensor:
        """Mean cross-entropy, as in training."""
        return self._step.loss(self.batch, self.batch.targets)

    def _take_up(self, stage: Stage, groups: list[ParamGroup]) -> None:
        method = self.method or Base(MethodConfig(), None, 0, 1)
        updater = TorchUpdater(self.model, method, groups, self.settings, CLIP) if groups else FrozenUpdater(self.model)
        self._step = Step(stage, self.model, method, updater)

    def _take(self, instrument: Instrument) -> None:
        self.number += 1
        self._step.instrument = instrument
        self._step.take(self.number, [self.batch], 1.0)


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
        # Not timed: the first step allocates the optimizer's state and picks kernels.
        flops.setdefault(contestant.name, contestant.count())

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

"""One method that takes steps to be timed: the very step that training takes (`training.step`), on one batch of random tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from smt_bench.data.batches import Batch
from smt_bench.machine.memory import release
from smt_bench.measuring.flops import count_flops
from smt_bench.methods.base import Method, MethodConfig, OptimizerSettings, ParamGroup
from smt_bench.methods.full import Base
from smt_bench.models.precision import attend
from smt_bench.training.instrument import UNWATCHED, Instrument, Region
from smt_bench.training.loss import enable_checkpointing
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.step import Stage, Step

CLIP = 1.0  # as in every recipe; clipping reads all gradients, so it is part of a step's cost
PHASES = ("forward", "backward", "hooks", "optimizer")
Seconds = dict[str, float]


class Laps(Instrument):
    """Seconds by phase; clipping belongs to the optimizer's."""

    def __init__(self) -> None:
        self.taken: Seconds = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def around(self, region: Region) -> Iterator[None]:
        """Adds the region's seconds."""
        start = now()
        yield
        self.taken["optimizer" if region == "clip" else region] += now() - start


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
        make: the method, fresh at every call; None for a model that only computes loss and gradients of activations.
        build: makes the model, always with the same weights.
        warmup: stay in the method's warm-up for good, in place of attaching after `selecting` steps of it.
        selecting: warm-up steps before attaching.
        prepare: for contestants without a method: makes something require gradients.
        updater: what moves the weights.
        seconds: of the selection, once it was made: scores, choice and conversion of the layers.
        described: what the method said of itself when it was closed.
        number: steps taken, over all openings.
    """

    name: str
    make: Callable[[], Method] | None
    build: Callable[[], Any]
    warmup: bool = False
    selecting: int = 2
    prepare: Callable[[nn.Module], Any] | None = None
    updater: type[TorchUpdater] = TorchUpdater
    seconds: float | None = None
    described: dict[str, Any] | None = None
    number: int = 0

    def __post_init__(self) -> None:
        self.model: Any = None
        self.method: Method | None = None
        self._step: Step | None = None

    def open(self, batch: Batch, settings: OptimizerSettings, checkpointing: bool) -> None:
        """Builds model and method and brings them to where their steps are to be timed."""
        self.batch, self.settings = batch, settings
        self.load()
        attend(self.model, batch.ids_BT.shape[1])
        if checkpointing:
            enable_checkpointing(self.model)
        self.select()

    def load(self) -> None:
        """The first part of `open`: the model alone."""
        self.model, self.method = self.build(), None if self.make is None else self.make()

    def select(self) -> None:
        """The rest of it: the warm-up, and what it ends with."""
        if self.method is None:
            assert self.prepare is not None
            self.prepare(self.model)
            self._take_up("warmup", [])
            return
        if self.method.warmup_steps > 0:
            self._take_up("warmup", self.method.warmup(self.model))
            if self.warmup:
                return
            for _ in range(self.selecting):
                self.step()
            self._step = None  # and with it the optimizer
        start = now()
        groups = self.method.attach(self.model)
        self.seconds = now() - start
        self._take_up("tuning", groups)

    def close(self, describe: bool = True) -> None:
        """Frees everything: model, method, optimizer.

        Args:
            describe: ask the method first what it did; not where it has stopped half-way.
        """
        if describe and self.method is not None:
            self.described = self.method.describe()
        self.model = self.method = self._step = None
        release()

    def step(self) -> Seconds:
        """One optimizer step; seconds per phase."""
        laps = Laps()
        self._take(laps)
        return laps.taken

    def run(self) -> None:
        """One optimizer step that nothing waits in."""
        self._take(UNWATCHED)

    def count(self) -> dict[str, int]:
        """Takes a step as well; FLOPs of its forward and its backward pass."""
        with count_flops() as so_far:
            counter = Operations(so_far)
            self._take(counter)
        return counter.counted

    def loss(self) -> torch.Tensor:
        """Mean cross-entropy, as in training."""
        assert self._step is not None
        return self._step.loss(self.batch, self.batch.targets)

    def _take_up(self, stage: Stage, groups: list[ParamGroup]) -> None:
        method = self.method or Base(MethodConfig(), None, 0, 1)
        updater = self.updater(self.model, method, groups, self.settings, CLIP) if groups else FrozenUpdater(self.model)
        self._step = Step(stage, self.model, method, updater)

    def _take(self, instrument: Instrument) -> None:
        assert self._step is not None
        self.number += 1
        self._step.instrument = instrument
        self._step.take(self.number, [self.batch], 1.0)


def now() -> float:
    """Seconds on a clock, once the GPU has done what it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

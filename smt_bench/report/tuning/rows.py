"""A tuning in plain values, as its tables and figures read it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from smt_bench.methods.search import Span

NEAR = 0.05  # of a loss: trials this near the best lie in its basin


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        method: its name.
        stage: 0, or which widening of the rates it belongs to.
        knobs: learning rate ("lr") and settings that were searched.
        loss: held-out loss to choose by (nats per response token) with the first tuning seed; None without a number.
        again: the same with the later seeds, for the best trials; None where a run gave no number.
        status: of the first run; empty where it has no record yet.
        seconds: of all its runs.
        keys: of all its runs.
        winner: whether it was chosen.
    """

    method: str
    stage: int
    knobs: Mapping[str, float]
    loss: float | None
    again: tuple[float | None, ...]
    status: str
    seconds: float
    keys: tuple[str, ...]
    winner: bool


@dataclass(frozen=True)
class Found:
    """A tuning, finished or not.

    Attributes:
        name: its hash.
        model: for titles.
        stage: what is still to be done, or "done".
        trials: of all methods.
        spans: the ranges that were searched in the end, by method and knob.
        usual: the recipe's value of every knob, by method.
        wider: at which ends the rates were widened, in order.
        conditions: sentences on model, data and training.
        seeds: the first tuning seed and the later ones.
        asked: trials of each method that were declared.
        fractions: the trainable fraction of each method's trials; None for those without.
    """

    name: str
    model: str
    stage: str
    trials: Sequence[TrialRow]
    spans: Mapping[str, Mapping[str, Span]]
    usual: Mapping[str, Mapping[str, Any]]
    wider: Sequence[str]
    conditions: Sequence[str]
    seeds: Sequence[int]
    asked: int
    fractions: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """In the order in which they were tried."""
        return list(self.spans)

    def of(self, method: str) -> list[TrialRow]:
        """A method's trials."""
        return [t for t in self.trials if t.method == method]

    def losses(self, method: str) -> list[float]:
        """Of a method's trials that were run, with the first seed; infinite where there is no number."""
        return [math.inf if t.loss is None else t.loss for t in self.of(method) if t.status]

    def seconds(self, method: str) -> float | None:
        """Mean time of a method's first runs; None without any."""
        own = [t.seconds / len(t.keys) for t in self.of(method) if t.status and t.seconds]
        return sum(own) / len(own) if own else None

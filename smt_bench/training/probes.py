"""Probes: what a run records besides its outcome, by looking at gradients after each backward pass.

A probe changes no number of the run. Its name is part of the run's key, since a record without it answers less.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn

from smt_bench.methods.modules import linears

WINDOWS = 10  # equal parts of the run, for what changes over it


class Probe(Protocol):
    """Sees every step of a run.

    Attributes:
        watches: layers (`methods.roles`) whose whole weight gradients it must be shown.
    """

    watches: tuple[str, ...]

    def observe(self, step: int) -> None:
        """Called after backward of step `step` (1-based), gradients accumulated, not yet clipped."""

    def result(self) -> dict[str, Any]:
        """Plain JSON for the record."""

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far, as plain values, for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""


class MedianGradient:
    """Median absolute gradient of every Q, K and V weight matrix, averaged over steps (SMT, figure 3 and section 5.2).

    A matrix without a gradient in some step (frozen, or replaced by the method) is not counted there.

    Args:
        model: a model with attention, whose projections are layers of their own (`models.unpack`).
        steps: of the run.

    Raises:
        ValueError: the model has no such projections.
    """

    watches: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")

    def __init__(self, model: nn.Module, steps: int) -> None:
        self.steps = steps
        self.weights = {name: linear.weight for name, linear in linears(model, self.watches)}
        if not self.weights:
            raise ValueError(f"the model has no {', '.join(self.watches)}: figure 3 needs these projections")
        self.sums = {name: [0.0] * WINDOWS for name in self.weights}
        self.counts = {name: [0] * WINDOWS for name in self.weights}

    def observe(self, step: int) -> None:
        """Adds one median per matrix."""
        window = (step - 1) * WINDOWS // self.steps
        for name, weight in self.weights.items():
            if weight.grad is not None:
                self.sums[name][window] += weight.grad.abs().median().item()
                self.counts[name][window] += 1

    def result(self) -> dict[str, Any]:
        """Per matrix the mean over the run and over each tenth of it; None where no step had a gradient."""
        found: dict[str, Any] = {}
        for name, sums in self.sums.items():
            counts = self.counts[name]
            found[name] = {
                "mean": sum(sums) / sum(counts) if sum(counts) else None,
                "windows": [s / n if n else None for s, n in zip(sums, counts)],
            }
        return found

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores them."""
        self.sums, self.counts = state["sums"], state["counts"]


PROBES = {"median-gradient": MedianGradient}


def build(names: Sequence[str], model: nn.Module, steps: int) -> dict[str, Probe]:
    """The probes called `names`.

    Raises:
        ValueError: no such probe.
    """
    for name in names:
        if name not in PROBES:
            near = difflib.get_close_matches(name, PROBES, n=1, cutoff=0.0)
            raise ValueError(f"unknown probe {name!r}: did you mean {near[0]!r}?")
    return {name: PROBES[name](model, steps) for name in names}

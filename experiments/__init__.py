"""The experiments: one module per table or figure of the papers (or per question), and this registry."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

from experiments import frozen_warmup, kernels, learning_rate, memory, plateau, speed
from methods.base import Capacity
from smt_bench.planning import Planner
from smt_bench.runs import Measurement, Run
from smt_bench.store import Record


class Experiment(Protocol):
    """What an experiment module offers.

    One that measures instead of training has `measure(measurement, watch) -> result` besides, and its `runs` returns
    `Measurement`s with None for the capacity; it needs no data and no weights.
    """

    NAME: str
    REPRODUCES: str
    NEEDS: str

    def method_names(self, planner: Planner) -> list[str]:
        """The methods it will run, known without data or weights."""

    def check(self, planner: Planner) -> None:
        """Refuses impossible requests from shapes alone."""

    def runs(self, planner: Planner) -> Sequence[tuple[Run, Capacity] | tuple[Measurement, None]]:
        """The runs, in the order in which they are made."""

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Writes tables and figures from records; returns the files, the main table first."""


REGISTRY: dict[str, Any] = {
    module.NAME: module for module in (plateau, learning_rate, speed, memory, kernels, frozen_warmup)
}


def all_experiments() -> dict[str, Experiment]:
    """Built-in experiments and those that other packages register under `smt_bench.experiments`."""
    found = dict(REGISTRY)
    for point in entry_points(group="smt_bench.experiments"):
        found.setdefault(point.name, point.load())
    return cast(dict[str, Experiment], found)


def find(name: str) -> Experiment:
    """The experiment called `name`.

    Raises:
        ValueError: no such experiment; the message names the nearest.
    """
    found = all_experiments()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(found)}"
        raise ValueError(f"unknown experiment {name!r}: {hint}")
    return found[name]

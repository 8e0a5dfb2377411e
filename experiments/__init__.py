"""The experiments: one module per table or figure of the papers (or per question), and this registry."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

from smt_bench.experiments import paper
from smt_bench.experiments.accuracy import commonsense, learning_rate, math10k, plateau
from smt_bench.experiments.choices import allocation, block_metric, block_size, qkv, selection, warmup
from smt_bench.experiments.cost import break_even
from smt_bench.experiments.cost.kernels import experiment as kernels
from smt_bench.experiments.cost.memory import experiment as memory
from smt_bench.experiments.cost.speed import experiment as speed
from smt_bench.experiments.why import anatomy, criteria, frozen_warmup, gradients, saturation
from smt_bench.methods.base import Capacity
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Measurement, Run
from smt_bench.records.store import Record


class Experiment(Protocol):
    """What an experiment module offers.

    One that measures instead of training has `measure(measurement, watch) -> result` besides, and its `runs` returns
    `Measurement`s with None for the capacity; it needs no data and no weights, unless it says `TRAINED = True`: then
    `measure` is given the run's `Inputs` as a third argument. `FAMILIES` names the data families it covers where no task is
    asked for (by default commonsense). One that only has `MEMBERS` stands for the experiments of these names.
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
    module.NAME: module
    for module in (
        paper, plateau, commonsense, allocation, math10k, qkv, block_metric, selection, warmup, block_size, gradients, anatomy,
        saturation, criteria, break_even, speed, memory, kernels, frozen_warmup, learning_rate,
    )
}  # fmt: skip


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
    if name in REGISTRY:
        return REGISTRY[name]  # without reading every installed package's entry points, which takes 15 ms
    found = all_experiments()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(found)}"
        raise ValueError(f"unknown experiment {name!r}: {hint}")
    return found[name]


def members(name: str) -> list[Experiment]:
    """The experiment called `name`, or those it stands for.

    Raises:
        ValueError: no such experiment.
    """
    return [find(part) for part in getattr(find(name), "MEMBERS", (name,))]

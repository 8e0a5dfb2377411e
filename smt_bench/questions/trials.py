"""What a tuning consists of: where a method is searched, the trials drawn there, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smt_bench.methods.base import Capacity
from smt_bench.methods.search import Span
from smt_bench.questions.grid import Cell
from smt_bench.records.runs import Run, digest


@dataclass(frozen=True)
class Space:
    """Where one method's settings are searched.

    Attributes:
        fraction: the trainable fraction of its trials; None for methods without one.
        lr: the recipe's learning rate; the range is around it.
        spans: of the method's own settings.
    """

    fraction: float | None
    lr: float
    spans: Mapping[str, Span]

    def rates(self, low: float, high: float) -> Span:
        """Learning rates so many decades below the recipe's to so many above."""
        return Span(self.lr * 10**low, self.lr * 10**high)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"fraction": self.fraction, "lr": self.lr, "spans": {k: v.to_dict() for k, v in self.spans.items()}}


@dataclass(frozen=True)
class Trial:
    """One draw.

    Attributes:
        cell: what is run.
        stage: 0, or which widening it belongs to.
        runs: with the first tuning seed, then, where it is among the best, with the others.
    """

    cell: Cell
    stage: int
    runs: tuple[Run, ...]


@dataclass
class Search:
    """A tuning as far as its records go.

    Attributes:
        declared: what was decided before the first trial.
        trials: of all methods, in the order in which they are run.
        low: decades below the recipe's rates that are searched by now, negative.
        high: above.
        wider: at which ends the rates were widened, in order.
        stage: "trials", "wider", "again" or "done": what has runs without a record.
        planned: all runs that are known by now, with their capacities.
    """

    declared: dict[str, Any]
    trials: list[Trial]
    low: float
    high: float
    wider: list[str]
    stage: str
    planned: dict[str, tuple[Run, Capacity]]

    @property
    def hash(self) -> str:
        """Names the tuning."""
        return digest(self.declared)

    @property
    def methods(self) -> list[str]:
        """That are tuned."""
        return list(self.declared["spaces"])

    @property
    def declared_split(self) -> bool:
        """Whether there are held-out examples to choose by."""
        return bool(self.trials[0].runs[0].data.tune)

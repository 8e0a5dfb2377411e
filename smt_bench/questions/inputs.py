"""What a run needs besides itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smt_bench.data.datasets import DataSet
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.machine.watch import Watcher, unwatched
from smt_bench.models.locate import Located
from smt_bench.records.rows import Rows
from smt_bench.records.runs import ModelRef
from smt_bench.training.resume import Keeper


def unheard(step: int, loss: float) -> None:
    """Nobody asks for losses."""


@dataclass
class Inputs:
    """What a run needs besides itself; shared by the runs of a sweep.

    Attributes:
        located: the model's files.
        data: examples; their hashes are in the run.
        device_map: for models spread over several GPUs.
        watch: progress.
        keeper: of this run's checkpoints; the default keeps none.
        spread: how the run is spread over processes.
        keep: folder for the adapters of the runs; None: they are not kept.
        on_step: told of every training step's loss.
        rows: what an interrupted measurement has found already; the default keeps nothing.
        allow_code: whether programs that the model writes may be run; else tasks that need it fail.
        recipe: which recipe, and what of it is otherwise because it was asked for; empty: nothing.
        limit: questions of each of lm-eval's own tasks at most; None: all.
        source_of_data: `--data`, for experiments that read it themselves.
    """

    located: Located
    data: DataSet
    device_map: str | None = None
    watch: Watcher = unwatched
    keeper: Keeper = field(default_factory=Keeper)
    spread: Spread = ALONE
    keep: Path | None = None
    on_step: Callable[[int, float], None] = unheard
    rows: Rows = field(default_factory=Rows)
    allow_code: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    source_of_data: str | None = None

    def source(self, model: ModelRef) -> str:
        """What `models.build` knows a model by: its name, or the folder of the one that was asked for."""
        return str(self.located.path) if model == self.located.ref else model.name

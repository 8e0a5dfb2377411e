"""Runs told to an experiment tracker as they go, through accelerate's trackers; what is recorded does not depend on it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smt_bench.machine import parallel
from smt_bench.records.files import BenchWarning
from smt_bench.records.flat import flat, row
from smt_bench.records.outcome import first_line
from smt_bench.records.runs import Question
from smt_bench.records.store import Record

PROJECT = "smt-bench"
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
NUMBERS = ("heldout.", "evaluation.", "seconds.", "memory_bytes.", "capacity.")  # of a record, told at the end


def check(name: str) -> None:
    """Looks whether a tracker is there.

    Raises:
        ValueError: no such tracker, or its package is not installed.
    """
    if name not in PACKAGES:
        raise ValueError(f"--track {name}: choose from {', '.join(PACKAGES)}")
    if find_spec(PACKAGES[name]) is None:
        raise ValueError(f"--track {name}: the package {PACKAGES[name]} is not installed: pip install {PACKAGES[name]}")


class Tracked:
    """One run as a tracker sees it; other processes than the first tell nothing.

    Args:
        name: of the tracker.
        run: the question.
        results: the results folder; what a tracker writes to files goes to its `tracking`.
    """

    def __init__(self, name: str, run: Question, results: Path) -> None:
        self._make: Callable[[], Any] | None = (lambda: _tracker(name, run, results)) if parallel.rank() == 0 else None
        self._tracker: Any = None

    def step(self, number: int, loss: float) -> None:
        """A training step and its loss."""
        self._log({"train/loss": loss}, number)

    def end(self, record: Record) -> None:
        """What became of the run; its numbers at the last step."""
        told = {name: value for name, value in row(record).items() if name.startswith(NUMBERS)}
        numbers = {name.replace(".", "/"): float(v) for name, v in told.items() if type(v) in (int, float)}
        last = len((record.get("training") or {}).get("losses") or [])
        self._log({"done": float(record["status"] == "done"), **numbers}, last)
        self._try(lambda: self._tracker.finish() if self._tracker is not None else None)
        self._tracker = self._make = None

    def _log(self, values: dict[str, float], step: int) -> None:
        self._try(lambda: self._ready().log(values, step=step))

    def _ready(self) -> Any:
        if self._tracker is None:  # not before the run has chosen its device, which accelerate asks for
            assert self._make is not None
            self._tracker = self._make()
        return self._tracker

    def _try(self, tell: Callable[[], Any]) -> None:
        """A tracker that does not answer is left alone: a run is none of its business."""
        if self._make is None:
            return
        try:
            tell()
        except Exception as error:  # whatever a service or its library comes up with
            self._make = self._tracker = None
            warnings.warn(f"--track: given up for this run ({first_line(error)})", BenchWarning, stacklevel=2)


def _tracker(name: str, run: Question, results: Path) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()
    folder = (results / "tracking").absolute()
    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "tensorboard":
        made = kind(run.key, logging_dir=folder)
    elif name == "mlflow":
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        folder.mkdir(parents=True, exist_ok=True)
        made = kind(PROJECT, logging_dir=folder, run_name=run.key)
    else:
        made = kind(PROJECT, name=run.key)
    made.start()
    made.store_init_configuration(flat(run.to_dict()))
    return made

"""Progress on a terminal, and one line per finished run."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from smt_bench.machine.borders import terminal
from smt_bench.records.store import Record

WINDOW = 24 * 3600.0  # seconds of steps behind an ETA: of slow ones half a minute holds one, which has no speed


def outcome(record: Record) -> str:
    """What came out of a run, in a few words."""
    if record["status"] != "done":
        return f"{record['status']}: {record['message']}"
    if "evaluation" not in record:
        return f"{record['seconds']['total']:.0f} s"
    scores = [task["accuracy"] for task in record["evaluation"].values()]
    accuracy = f"accuracy {100 * sum(scores) / len(scores):.1f} %" if scores else "no tasks"
    nll = record["heldout"]["nll"]
    heldout = "" if nll is None else f", held-out NLL {nll:.3f}"
    return f"{accuracy}{heldout}, {record['seconds']['total']:.0f} s"


class Bars:
    """Progress on a terminal, and one line per finished run.

    Args:
        console: where to.
        total: runs of the sweep.
    """

    def __init__(self, console: Console, total: int) -> None:
        columns: list[Any] = [
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        ]
        self.total, self.console = total, console
        self._bars = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=WINDOW
        )
        self._whole = self._bars.add_task("sweep", total=total, note="")
        self._one = self._bars.add_task("run", total=None, note="")

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, what: str) -> None:
        """A run begins."""
        self._bars.update(self._whole, note=terminal(what))
        self._bars.reset(self._one, description="loading", total=None, note="")

    def watch(self, phase: str, done: int, total: int, note: str = "") -> None:
        """The run goes by."""
        if self._bars.tasks[self._one].description != phase:
            self._bars.reset(self._one, description=phase, total=total)
        self._bars.update(self._one, completed=done, total=total, note=note)

    def finish(self, line: str = "") -> None:
        """A run is over; `line` says how."""
        self._bars.advance(self._whole)
        if line:
            number = int(self._bars.tasks[self._whole].completed)
            self.say(f"[{number}/{self.total}] {line}")

    def say(self, line: str) -> None:
        """A line that stays."""
        self.console.print(terminal(line), markup=False, highlight=False)


def print_to(stream: Any = None) -> Console:
    """A console for messages: standard error, so that standard output stays clean for `--json`."""
    return Console(file=stream or sys.stderr, soft_wrap=True)

"""How a question's answer becomes a record, whatever happens on the way."""

from __future__ import annotations

import gc
import re
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smt_bench.machine import facts, memory, parallel
from smt_bench.machine.watch import Watcher
from smt_bench.records.runs import Measurement, Question
from smt_bench.records.store import SCHEMA, Record


def measure(
    measurement: Measurement, answer: Callable[[Measurement, Watcher], dict[str, Any]], watch: Watcher
) -> Record:
    """Answers a measurement; the record is as that of a run, with `result` in place of what training gives."""

    def fill(record: Record) -> None:
        memory.reset_peaks()
        record["result"] = answer(measurement, watch)

    return recorded(measurement, fill)


def recorded(run: Question, fill: Callable[[Record], None]) -> Record:
    """The record of a question, whatever happens while `fill` answers it: done, diverged, out_of_memory or failed.

    KeyboardInterrupt passes through, and so does `parallel.Gone`, which another process of the run will explain.
    """
    record: Record = {
        "schema": SCHEMA,
        "key": run.key,
        "run": run.to_dict(),
        "status": "failed",
        "message": None,
        "step": None,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": facts.describe() | facts.numerics(),
    }
    started = time.perf_counter()
    try:
        fill(record)
        record["status"] = "done"
    except Diverged as error:
        record |= {"status": "diverged", "message": str(error), "step": error.step}
        for part in ("heldout", "evaluation", "losses", "texts"):
            record.pop(part, None)
    except Exception as error:
        if parallel.size() > 1 and parallel.gone(error):
            raise parallel.Gone(first_line(error)) from error
        # The sweep goes on: the record names what went wrong and where
        lines = portable(traceback.format_exc()).splitlines()[-12:]
        record |= {"message": portable(first_line(error)), "traceback": lines}
        if memory.exhausted(error):
            record["status"] = "out_of_memory"
    record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    seconds = record.setdefault("seconds", {})
    # A run that was interrupted also took what its checkpoint says of earlier processes.
    seconds["total"] = round(max(time.perf_counter() - started, sum(seconds.values())), 3)
    record.setdefault("memory_bytes", {}).update(memory.peak_memory())
    gc.collect()
    return record


# At least two components; what ends a path in a message ends it here.
_ABSOLUTE = re.compile(r"""(?<![\w./:~-])/(?:[^\s/'"<>:,;()]+/)+(?=[^\s/'"<>:,;()])""")


def portable(text: str) -> str:
    """A message or traceback without this machine's folders: records are shared.

    Files of the package and of libraries keep their path from where they are imported, those at home from "~", all others their
    name alone.
    """
    places = {str(Path(entry).resolve()) for entry in sys.path if entry} | {str(facts.ROOT)}
    for place in sorted(places - {"/"}, key=len, reverse=True):
        text = text.replace(f"{place}/", "")
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(home, "~")
    return _ABSOLUTE.sub(".../", text)


def first_line(error: BaseException) -> str:
    """An error in one line: its kind, and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class Diverged(Exception):
    """The loss stopped being a number.

    Args:
        step: the optimizer step (1-based) at which it was seen.
        loss: what the loss was.
    """

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"loss is {loss} at step {step}")
        self.step = step

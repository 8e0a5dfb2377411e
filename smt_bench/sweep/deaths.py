"""What becomes of a run whose process died: tried again, or recorded as failed."""

from __future__ import annotations

from collections.abc import Sequence

from smt_bench.records.runs import Question
from smt_bench.records.store import Record, Store
from smt_bench.training.checkpoint import checkpoints


class Deaths:
    """Whether a run whose processes died is tried again: as long as its checkpoint moves on, and once more if it does not.

    Args:
        store: the results folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._seen: dict[str, list[str]] = {}

    def again(self, key: str) -> bool:
        """Counts one death; False if the one before was at the same checkpoint."""
        before = self._seen.get(key)
        self._seen[key] = sorted(path.name for path in checkpoints(self.store, key).folder.glob("[0-9]*.pt"))
        return self._seen[key] != before


def failure(run: Question, message: str, log: Sequence[str]) -> Record:
    """The record of a run whose process died, so that it could not write one.

    Args:
        run: the run.
        message: what is known.
        log: the last lines the process wrote.
    """
    from smt_bench.records.outcome import portable, recorded  # takes seconds, and `status` only looks at names

    def fill(record: Record) -> None:
        raise ChildProcessError(message)

    record = recorded(run, fill)
    status = "out_of_memory" if any("OutOfMemoryError" in line for line in log) else "failed"
    told = {"message": portable(message), "traceback": [portable(line) for line in log]}
    return {**record, "status": status, **told, "memory_bytes": {}}

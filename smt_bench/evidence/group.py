"""One cell of a table: a method at a fraction, its records, and what these answered as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smt_bench.evidence.words import percent, title
from smt_bench.records import heldout
from smt_bench.records.store import Record

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


class Answers:
    """What finished runs answered; tables and claims ask for the same of it again and again, and it is made once.

    Args:
        records: with numbers, which nobody changes.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._correct: dict[str, NDArray[Any]] = {}
        self._accuracies: dict[tuple[str, ...], list[float]] = {}
        self.compared: dict[tuple[Answers, tuple[str, ...], int, int], Any] = {}  # with others: `pairs.compare`

    def accuracies(self, tasks: Sequence[str]) -> list[float]:
        """Of each run in %, every task counting the same."""
        found = self._accuracies.get(tuple(tasks))
        if found is None:
            found = self._accuracies[tuple(tasks)] = [accuracy(r, tasks) for r in self._records]
        return found

    def correctness(self, tasks: Sequence[str], rows: Sequence[int]) -> dict[str, Array]:
        """Per task and example, the share of the runs number `rows` that answered it rightly."""
        every = list(rows) == list(range(len(self._records)))
        return {t: np.mean(self._right(t) if every else self._right(t)[rows], axis=0) for t in tasks}

    def _right(self, task: str) -> NDArray[Any]:
        if task not in self._correct:
            columns = [np.asarray(r["evaluation"][task]["examples"]["correct"]) for r in self._records]
            self._correct[task] = np.stack(columns)
        return self._correct[task]

    @cached_property
    def tasks(self) -> frozenset[str] | None:
        """Those that every run was judged on; None without runs."""
        sets = (frozenset(r["evaluation"]) for r in self._records)
        return frozenset.intersection(*sets) if self._records else None

    @cached_property
    def nlls(self) -> list[float | None]:
        """Reported held-out loss of each run (nats per response token)."""
        return [heldout.nll(r, "report") for r in self._records]

    @cached_property
    def _heldout(self) -> list[tuple[Array, Array]]:
        """Log-likelihoods (0 where nothing of a response was left) and response tokens of each run's reported examples."""
        made = []
        for record in self._records:
            logliks, tokens = (np.asarray(column, dtype=float) for column in heldout.examples(record, "report"))
            made.append((np.where(tokens > 0, logliks, 0.0), tokens))
        # As many in each run: where the data vary with the seed a place is another example, and there may be one less.
        most = max(len(tokens) for _, tokens in made)
        return [(np.pad(a, (0, most - len(a))), np.pad(b, (0, most - len(b)))) for a, b in made]

    def heldout_parts(self, rows: Sequence[int]) -> tuple[Array, Array] | None:
        """Per held-out example, negative log-likelihood (nats, mean over the runs number `rows`) and response tokens.

        Without examples whose response the cut-off left nothing of; None where a run has no held-out number.
        """
        if not rows or any(self.nlls[i] is None for i in rows):
            return None
        logliks, tokens = (np.mean([self._heldout[i][column] for i in rows], axis=0) for column in (0, 1))
        scored = tokens > 0
        return -logliks[scored], tokens[scored]


@dataclass(frozen=True)
class Group:
    """One cell of a table.

    Attributes:
        method: method name.
        fraction: requested trainable fraction; None for methods that take none.
        done: records with numbers, by seed.
        lost: diverged, out of memory, failed or unfinished ones.
        older: records of other settings, superseded by those above; they contribute nothing.
    """

    method: str
    fraction: float | None
    done: tuple[Record, ...]
    lost: tuple[Record, ...]
    older: tuple[Record, ...]

    @property
    def fraction_pct(self) -> float | None:
        """Requested trainable parameters in % of the model."""
        return None if self.fraction is None else round(100 * self.fraction, 10)

    @property
    def label(self) -> str:
        """Method and fraction for people."""
        return title(self.method) + ("" if self.fraction_pct is None else f" {percent(self.fraction_pct)}")

    @property
    def run(self) -> dict[str, Any]:
        """What was asked, the same for all its records but for the seed."""
        run: dict[str, Any] = (self.done or self.lost)[0]["run"]
        return run

    @property
    def trains(self) -> bool:
        """False for an untouched model, whose answers depend on no seed."""
        return bool(self.run["train"]["lr"] > 0 and self.run["train"]["steps"] > 0)

    @property
    def capacity(self) -> dict[str, Any]:
        """What the fraction became; empty if no record says."""
        return next((r["capacity"] for r in (*self.done, *self.lost) if r.get("capacity")), {})

    @property
    def status(self) -> str:
        """What happened to the runs without numbers, e.g. "diverged" or "2 diverged, 1 out of memory"."""
        counts = Counter(r["status"].replace("_", " ") for r in self.lost)
        if len(counts) == 1 and not self.done:
            return str(next(iter(counts)))
        return ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))

    @cached_property
    def answers(self) -> Answers:
        """Of its records with numbers, in their order."""
        return Answers(self.done)

    @cached_property
    def by_seed(self) -> dict[int, int]:
        """Where in `done` a seed's record stands."""
        return {r["run"]["seed"]: i for i, r in enumerate(self.done)}

    def called(self, label: str) -> Group:
        """The same runs, without those superseded, as a row of another name."""
        other = replace(self, method=label, older=())
        vars(other)["answers"] = self.answers  # of the same records
        return other


class Cells(tuple[Group, ...]):
    """What `cells.groups` made of records; it takes them as they are, so that records are grouped once for all tables.

    Attributes:
        summary: `cells.summarise` of them, once that was asked for.
    """

    summary: pd.DataFrame | None = None


def accuracy(record: Record, tasks: Sequence[str]) -> float:
    """Accuracy of one run in %, every task counting the same."""
    return float(100 * sum(record["evaluation"][t]["accuracy"] for t in tasks) / len(tasks))

"""One cell of a table: a method at a fraction, its records, and what these answered as arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smt_bench.evidence import clusters
from smt_bench.evidence.interval import over_items
from smt_bench.evidence.sides import Items, Side, accuracies, ratios
from smt_bench.evidence.words import percent, title
from smt_bench.records import heldout
from smt_bench.records.store import Record

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Heldout:
    """The held-out examples of a record that verdicts are about; the one place where they are taken out of it.

    Attributes:
        nll: mean over their response tokens (nats).
        loglik: of every response (nats); without those of which the cut-off left nothing.
        tokens: of every response.
        cluster: the source of each; None: unknown, every example stands for itself.
    """

    nll: float
    loglik: Array
    tokens: Array
    cluster: NDArray[np.int64] | None


def heldout_of(record: Record) -> Heldout | None:
    """What a record says about the held-out examples that are reported; None where it has no number."""
    nll = heldout.nll(record, "report")
    if nll is None:
        return None
    columns = record["heldout"]["examples"]
    tokens = np.asarray(columns["tokens"], dtype=float)
    scored = tokens > 0
    if "tune" in columns:
        scored &= np.asarray(columns["tune"]) == 0
    loglik = np.asarray(columns["loglik"], dtype=float)[scored]
    sources = clusters.of_heldout(record)
    return Heldout(
        nll, loglik, tokens[scored], None if sources is None else np.asarray(sources, dtype=np.int64)[scored]
    )


class Answers:
    """What finished runs answered; tables and claims ask for the same of it again and again, and it is made once.

    Args:
        records: with numbers, which nobody changes.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._vary = any(
            r["run"]["data"].get("varies") for r in records
        )  # a place is then another example in every run
        self._fixed = not any(trains(r["run"]) for r in records)
        self._correct: dict[str, NDArray[Any]] = {}
        self._accuracies: dict[tuple[str, ...], list[float]] = {}
        self._sides: dict[tuple[str, ...], Side] = {}

    def accuracies(self, tasks: Sequence[str]) -> list[float]:
        """Of each run in %, every task counting the same."""
        found = self._accuracies.get(tuple(tasks))
        if found is None:
            found = self._accuracies[tuple(tasks)] = [accuracy(r, tasks) for r in self._records]
        return found

    def right(self, task: str) -> NDArray[Any]:
        """1 where a run answered an example rightly, its score where answers have one, (S, N)."""
        if task not in self._correct:
            answered = [r["evaluation"][task]["examples"] for r in self._records]
            columns = [np.asarray(a["score" if "score" in a else "correct"]) for a in answered]
            self._correct[task] = np.stack(columns)
        return self._correct[task]

    @cached_property
    def tasks(self) -> frozenset[str] | None:
        """Those that every run was judged on; None without runs."""
        sets = (frozenset(r["evaluation"]) for r in self._records)
        return frozenset.intersection(*sets) if self._records else None

    @cached_property
    def heldout(self) -> list[Heldout] | None:
        """Of each run; None where one has no number."""
        found = [heldout_of(r) for r in self._records]
        return [h for h in found if h is not None] if found and None not in found else None

    def side(self, tasks: Sequence[str]) -> Side | None:
        """Accuracy (points, every task counting the same) for `interval.contrast`; None without runs or tasks."""
        if not self._records or not tasks:
            return None
        if tuple(tasks) not in self._sides:
            correct = [self.right(t) for t in tasks]
            said = [None if self._vary else clusters.of_task(self._records[0], t) for t in tasks]
            items = Items.of([c if c is not None else range(part.shape[1]) for c, part in zip(said, correct)])
            self._sides[tuple(tasks)] = accuracies(correct, items, fixed=self._fixed)
        return self._sides[tuple(tasks)]

    @cached_property
    def nll_side(self) -> Side | None:
        """Held-out loss (nats per response token) for `interval.contrast`; None where a run has no number."""
        if self.heldout is None:
            return None
        first, most = self.heldout[0], max(h.tokens.size for h in self.heldout)
        known = None if self._vary else first.cluster
        items = Items.of([range(most) if known is None else known.tolist()])
        # Of data that vary with the seed one run may have an example less than another.
        losses, tokens = (
            np.stack([np.pad(column, (0, most - column.size)) for column in columns])
            for columns in ([-h.loglik for h in self.heldout], [h.tokens for h in self.heldout])
        )
        return ratios(losses, tokens, items, self._fixed)

    def over_examples(self, tasks: Sequence[str]) -> float | None:
        """Standard error of the mean accuracy (points) over new examples, of these very runs; None where it cannot be known."""
        side = self.side(tasks)
        return None if side is None else over_items([(1.0, side)])

    def sourced(self, tasks: Sequence[str]) -> bool:
        """Whether it is known which examples share a source."""
        return all(clusters.of_task(r, t) is not None for r in self._records[:1] for t in tasks)


def trains(run: dict[str, Any]) -> bool:
    """False for an untouched model, whose answers depend on no seed."""
    return bool(run["train"]["lr"] > 0 and run["train"]["steps"] > 0)


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
        return trains(self.run)

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


def keys_of(found: Iterable[Group]) -> str:
    """Of all runs of some cells, each once, separated by spaces: a column of a CSV."""
    return " ".join(dict.fromkeys(r["key"] for g in found for r in (*g.done, *g.lost)))


def accuracy(record: Record, tasks: Sequence[str]) -> float:
    """Accuracy of one run in %, every task counting the same."""
    return float(100 * sum(record["evaluation"][t]["accuracy"] for t in tasks) / len(tasks))

"""The same search for every method: so many trials each, drawn independently from a declared space.

A trial is an ordinary run with a tuning seed; choices are made by the part of the held-out examples that is for choices. Stages
follow from records, so that whoever reads the same records plans the same runs:

    trials    the same number for every method; all with the first tuning seed
    wider     while the best trial of some method lies at the edge of the learning rates, the rates of all methods are widened at
              that end and tried there as densely as before; at most `MOST_WIDER` times
    again     the best `TOP` of each method with more tuning seeds; the lowest mean over these alone wins, since the first seed
              chose them

Rates are searched around the recipe's, as far up and down for every method; what else is searched a method says itself
(`Method.search`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smt_bench import methods
from smt_bench.methods.base import Capacity
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import TUNING_SEEDS
from smt_bench.questions.trials import Search, Space, Trial
from smt_bench.questions.tuned import asked_for, under
from smt_bench.records import heldout
from smt_bench.records.runs import Run
from smt_bench.records.store import FINISHED, Record, Store
from smt_bench.report.conditions import weights
from smt_bench.report.tuning.rows import Found, TrialRow

VERSION = 1  # of the rules below: part of a tuning's hash
DECADES = 1.0  # of learning rates searched on each side of the recipe's
WIDER = 0.5  # decades that are added at an end
EDGE = 0.1  # part of the range of rates, at each end, in which a best trial widens it
MOST_WIDER = 2
TOP = 3
FIRST, AGAIN = TUNING_SEEDS, (TUNING_SEEDS + 1, TUNING_SEEDS + 2, TUNING_SEEDS + 3)


class Tuning(TrainingExperiment):
    """The search for the methods of another experiment.

    Args:
        inner: that experiment.
        store: where records are.
        trials: of each method.
    """

    tunes = True
    needs = "what the experiment needs"

    def __init__(self, inner: TrainingExperiment, store: Store, trials: int) -> None:
        self.inner, self.store, self.count = inner, store, trials

    @property
    def name(self) -> str:  # type: ignore[override]
        """The experiment's."""
        return self.inner.name

    @property
    def reproduces(self) -> str:  # type: ignore[override]
        """No table of a paper."""
        return f"rates and settings for {self.inner.name}"

    @property
    def families(self) -> tuple[str, ...]:  # type: ignore[override]
        """The experiment's."""
        return self.inner.families

    def method_names(self, planner: Planner) -> list[str]:
        """Its methods that train something."""
        return [name for name in self.inner.method_names(planner) if planner.trains(name)]

    def spaces(self, planner: Planner) -> dict[str, Space]:
        """By method. What was asked for with `--set` is not searched.

        Raises:
            ValueError: several fractions.
        """
        fractions = middle(planner)
        if len(fractions) > 1:
            raise ValueError("tune: --fraction: choose one: what is found there is used at all fractions")
        names = self.method_names(planner)
        if not names:
            raise ValueError("tune: --methods: none of them trains anything: name one that does, see `list methods`")
        steps = planner.request.steps or planner.recipe.steps or 1000
        fixed = {(method, what) for method, what, _ in planner.request.settings}
        found = {}
        for cell in grid(planner, names, fractions):
            spans = methods.find(cell.method).search(steps)
            own = {name: span for name, span in spans.items() if (cell.method, name) not in fixed}
            found[cell.method] = Space(cell.fraction, planner.recipe.lr(cell.method), own)
        return found

    def cells(self, planner: Planner) -> list[Cell]:
        """The first trials: known from shapes alone."""
        return [cell for cell, _ in self._draws(self.spaces(planner), self.count, -DECADES, DECADES, "")]

    def runs(self, planner: Planner) -> list[tuple[Run, Capacity]]:
        """All that is known by now."""
        return list(self.search(planner).planned.values())

    def search(self, planner: Planner) -> Search:
        """The tuning as far as its records go."""
        spaces = self.spaces(planner)
        planned: dict[str, tuple[Run, Capacity]] = {}

        def asked(cell: Cell, seed: int) -> Run:
            run, capacity = planner.run(cell.method, cell.fraction, seed, cell.lr, **cell.changes)
            planned.setdefault(run.key, (run, capacity))
            return run

        def drawn(count: int, low: float, high: float, name: str, stage: int) -> list[Trial]:
            return [Trial(c, stage, (asked(c, FIRST),)) for c, _ in self._draws(spaces, count, low, high, name)]

        low, high, wider = -DECADES, DECADES, list[str]()
        trials = drawn(self.count, low, high, "", 0)
        declared = self._declared(spaces, trials[0].runs[0], asked_for(planner, list(spaces)))

        def now(stage: str) -> Search:
            return Search(declared, trials, low, high, wider, stage, planned)

        if not self._recorded(trials):
            return now("trials")
        while len(wider) < MOST_WIDER and (end := self._edge(trials, spaces, low, high)):
            wider.append(end)
            more = math.ceil(self.count * WIDER / (2 * DECADES))  # as dense as the first trials
            beyond = (low - WIDER, low) if end == "low" else (high, high + WIDER)
            low, high = min(low, beyond[0]), max(high, beyond[1])
            trials = trials + drawn(more, *beyond, f" {len(wider)} {end}", len(wider))
            if not self._recorded(trials):
                return now("wider")
        best = [trial for method in spaces for trial in self.ranked(trials, method)[:TOP]]
        trials = [
            replace(trial, runs=(*trial.runs, *(asked(trial.cell, seed) for seed in AGAIN))) if trial in best else trial
            for trial in trials
        ]
        return now("done" if self._recorded(trials) else "again")

    def loss(self, run: Run) -> float:
        """A run's held-out loss to choose by; infinite where it has none."""
        record = self.store.read(run.key)
        value = None if record is None else heldout.nll(record, "tune")
        return math.inf if value is None else value

    def ranked(self, trials: Sequence[Trial], method: str) -> list[Trial]:
        """A method's trials that gave a number, the best first, by the first tuning seed."""
        losses = {i: self.loss(t.runs[0]) for i, t in enumerate(trials) if t.cell.method == method}
        return [trials[i] for i in sorted(losses, key=lambda i: losses[i]) if math.isfinite(losses[i])]

    def mean(self, trial: Trial) -> float | None:
        """Mean loss over the later tuning seeds; None for a trial that was not among the best."""
        return sum(map(self.loss, trial.runs[1:])) / len(trial.runs[1:]) if trial.runs[1:] else None

    def winner(self, search: Search, method: str) -> Trial | None:
        """The trial of the lowest mean over the later seeds; None where none of the best came through all of them."""
        assert search.stage == "done"
        again = [
            (m, i) for i, t in enumerate(search.trials) if t.cell.method == method and (m := self.mean(t)) is not None
        ]
        finite = [(m, i) for m, i in again if math.isfinite(m)]
        return search.trials[min(finite)[1]] if finite else None

    def found(self, planner: Planner, search: Search) -> Found:
        """The tuning as its tables read it."""
        spaces, best = self.spaces(planner), {}
        if search.stage == "done":
            best = {method: self.winner(search, method) for method in spaces}
        rows = [self._row(trial, any(trial is one for one in best.values())) for trial in search.trials]
        usual = {method: planner.config(method, planner.steps) for method in spaces}
        first = search.trials[0].runs[0]
        return Found(
            search.hash,
            planner.entry.name,
            search.stage,
            rows,
            {m: {"lr": s.rates(search.low, search.high), **s.spans} for m, s in spaces.items()},
            {m: {"lr": s.lr, **{knob: usual[m].get(knob) for knob in s.spans}} for m, s in spaces.items()},
            search.wider,
            [
                f"{first.train.steps} steps of {first.train.batch_size} examples; {first.data.tune} of {first.data.heldout} "
                f"held-out examples choose; model weights {first.model.weights}, revision {first.model.revision}. "
                f"{weights(first.to_dict()['train'])}"
            ],
            (FIRST, *AGAIN),
            self.count,
            {m: s.fraction for m, s in spaces.items()},
        )

    def _row(self, trial: Trial, winner: bool) -> TrialRow:
        records = [self.store.read(run.key) for run in trial.runs]
        values = [None if r is None else heldout.nll(r, "tune") for r in records]
        assert trial.cell.lr is not None
        return TrialRow(
            trial.cell.method,
            trial.stage,
            {"lr": trial.cell.lr, **trial.cell.changes},
            values[0],
            tuple(values[1:]),
            "" if records[0] is None else records[0]["status"],
            sum(r["seconds"]["total"] for r in records if r is not None),
            tuple(run.key for run in trial.runs),
            winner,
        )

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Nothing: its tables say more than records do, see `found`."""
        return []

    def _recorded(self, trials: Sequence[Trial]) -> bool:
        found = (self.store.read(run.key) for trial in trials for run in trial.runs)
        return all(record is not None and record["status"] in FINISHED for record in found)

    def _draws(
        self, spaces: Mapping[str, Space], count: int, low: float, high: float, name: str
    ) -> list[tuple[Cell, int]]:
        """So many trials of every method, taken in turns; the first ones of a longer search are those of a shorter one."""
        made = []
        for number in range(count):
            for method, space in spaces.items():
                rng = random.Random(f"smt-bench tuning {VERSION}{name}: {method} {number}")
                lr = float(space.rates(low, high).value(rng.random()))
                settings = {what: span.value(rng.random()) for what, span in space.spans.items()}
                made.append((Cell(method, space.fraction, settings, lr), number))
        return made

    def _edge(self, trials: Sequence[Trial], spaces: Mapping[str, Space], low: float, high: float) -> str | None:
        """At which end of the rates some method's best trial lies, the low one first; None: at none."""
        ends = set()
        for method, space in spaces.items():
            for trial in self.ranked(trials, method)[:1]:
                assert trial.cell.lr is not None
                part = space.rates(low, high).part(trial.cell.lr)
                ends |= {"low"} if part < EDGE else {"high"} if part > 1 - EDGE else set()
        return min(ends, key=("low", "high").index) if ends else None

    def _declared(self, spaces: Mapping[str, Space], run: Run, asked: Mapping[str, Any]) -> dict[str, Any]:
        rules = {
            "version": VERSION, "decades": DECADES, "wider": WIDER, "edge": EDGE, "most_wider": MOST_WIDER, "top": TOP,
            "seeds": [FIRST, *AGAIN], "choice": "mean held-out loss on the tune part over the later seeds",
        }  # fmt: skip
        made = {
            "experiment": self.inner.name,
            "trials": self.count,
            "rules": rules,
            "spaces": {name: space.to_dict() for name, space in spaces.items()},
            "under": under(run),
        }
        return made | ({"asked": dict(asked)} if asked else {})  # a tuning as the recipe has it keeps its hash

"""The types of experiment, twin of `methods.base`: those that train, those that measure, and bundles of both.

`run` and `plan` ask an experiment in this order and know none by name:

    families                  the data families, where no task is asked for
    method_names(planner)     what will run, for the check of the machine; before data and weights
    check(planner)            refuses impossible requests, from shapes alone
    runs(planner)             the questions, with data and weights located where it looks at them
    measure(...)              the answer to one; trained runs are `execute`'s
    render(records, ...)      tables and figures, later and from records alone

Experiments hold no state: one object serves any number of planners.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smt_bench.data.families import DEFAULT
from smt_bench.evidence.verdicts import Claim
from smt_bench.records.runs import Measurement, Question, Run
from smt_bench.records.store import Record

if TYPE_CHECKING:  # torch comes with these, and `table` does without
    from smt_bench.machine.watch import Watcher
    from smt_bench.methods.base import Capacity
    from smt_bench.questions.grid import Cell
    from smt_bench.questions.inputs import Inputs
    from smt_bench.questions.planner import Planner


class Experiment(ABC):
    """One table or figure of a paper, or one question; `TrainingExperiment` and `MeasuringExperiment` are its two kinds.

    Attributes:
        name: what `run` calls it, and its folder of results.
        reproduces: which table or figure, in one line.
        needs: model and data that it needs, in one line.
        families: the data families it covers where no task is asked for.
        needs_inputs: whether it looks at trained weights and data.
        tunes: whether it chooses rates or settings and reports nothing: its seeds are those that are kept for this.
        reads_data: whether it reads `--data` itself, where it does not look at a family's.
        keeps: whether its runs need what others of its runs have trained, so that all keep it.
        takes_base: whether it looks at a base of 4 bits without a method over it.
        takes_steps: whether the steps it takes are as asked for (`--batch-size`, `--length`, ...), not as a recipe says.
    """

    name: ClassVar[str]
    reproduces: ClassVar[str]
    needs: ClassVar[str]
    tunes: ClassVar[bool] = False
    keeps: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = (DEFAULT.name,)
    needs_inputs: ClassVar[bool] = True
    reads_data: ClassVar[bool] = False
    takes_base: ClassVar[bool] = False
    takes_steps: ClassVar[bool] = False

    def check_machine(self, planner: Planner, names: Sequence[str]) -> None:
        """Refuses what this machine cannot hold, before any file is touched.

        Args:
            planner: for the request.
            names: `method_names`.

        Raises:
            ValueError: what is needed, and what was found.
        """
        if names:
            planner.check_machine(names)

    @abstractmethod
    def method_names(self, planner: Planner) -> list[str]:
        """The methods it will run, known without data or weights.

        Raises:
            ValueError: others were asked for.
        """

    @abstractmethod
    def check(self, planner: Planner) -> None:
        """Refuses impossible requests from shapes alone.

        Raises:
            ValueError: what, the value, the remedy.
        """

    @abstractmethod
    def runs(self, planner: Planner) -> Sequence[tuple[Question, Capacity | None]]:
        """The questions, each once, in the order in which they are answered."""

    @abstractmethod
    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Writes tables and figures from records; returns the files, the main table first.

        Args:
            records: of its runs, whatever became of them; at least one.
            folder: where the files go.
            model: name for titles.
        """


class TrainingExperiment(Experiment):
    """An experiment whose runs train and are judged."""

    @abstractmethod
    def cells(self, planner: Planner) -> list[Cell]:
        """Its runs but for their seeds, from shapes alone."""

    def declares(self, planned: Sequence[Record]) -> Sequence[Claim]:
        """What its tables will judge, known before the first run; see `questions.analysis`.

        Args:
            planned: records that hold a question and no answer.
        """
        return ()

    def comparisons(self, planned: Sequence[Record]) -> int:
        """How many comparisons these claims come to, without controls: one that is about several fractions counts at each.

        Args:
            planned: as for `declares`.
        """
        return sum(not claim.control for claim in self.declares(planned))

    def check(self, planner: Planner) -> None:
        """Every cell must be possible."""
        for cell in self.cells(planner):
            planner.check_capacity(cell.method, cell.fraction, **cell.changes)

    def runs(self, planner: Planner) -> list[tuple[Run, Capacity]]:
        """Cells x seeds, seeds outermost; what comes to the same question (e.g. what trains nothing) runs once."""
        cells = self.cells(planner)
        cells = [*cells, *tuned(cells, planner)]
        made: dict[str, tuple[Run, Capacity]] = {}
        for seed in planner.seeds():
            for cell in cells:
                run, capacity = planner.run(
                    cell.method,
                    cell.fraction,
                    seed,
                    cell.lr,
                    cell.probes,
                    cell.recipe,
                    cell.tuning,
                    cell.only,
                    **cell.changes,
                )
                made.setdefault(run.key, (run, capacity))
        return list(made.values())


def tuned(cells: Sequence[Cell], planner: Planner) -> list[Cell]:
    """The cells once more with what a tuning found, where that was asked for; what an experiment varies it still varies."""
    return [
        replace(
            cell,
            lr=winner.lr if cell.lr is None else cell.lr,
            changes={**winner.settings, **cell.changes},
            tuning=winner.tuning,
        )
        for cell in cells
        if (winner := planner.winners.get(cell.method)) is not None
    ]


class OneMethodExperiment(TrainingExperiment):
    """A training experiment that is about one method.

    Attributes:
        method: its name.
    """

    method: ClassVar[str]

    def method_names(self, planner: Planner) -> list[str]:
        """That method.

        Raises:
            ValueError: others were asked for.
        """
        return planner.only(self.method)


class MeasuringExperiment(Experiment):
    """An experiment that measures instead of training: this machine, or trained weights as they are (`needs_inputs`).

    Attributes:
        version: bumped when the same settings can give other numbers.
        repeats: names in its answer whose values are the same each time on one machine, where others (seconds) are not.
    """

    version: ClassVar[int]
    repeats: ClassVar[tuple[str, ...]] = ()
    needs_inputs: ClassVar[bool] = False

    @abstractmethod
    def settings(self, planner: Planner) -> dict[str, Any]:
        """All choices of one measurement; part of its key."""

    def runs(self, planner: Planner) -> list[tuple[Measurement, None]]:
        """One measurement per seed."""
        asked = self.settings(planner)
        ask = planner.trained_measurement if self.needs_inputs else planner.measurement
        return [(ask(self.name, self.version, asked, seed), None) for seed in planner.seeds()]

    def check_inputs(self, measurement: Measurement, inputs: Inputs) -> None:
        """Refuses what the question is not about, where a stored one is asked again; `check` does it for a new one.

        Args:
            measurement: the question.
            inputs: what would answer it.

        Raises:
            ValueError: what, and the remedy.
        """
        if base := measurement.settings.get("base"):
            from smt_bench.methods.nf4 import check_installed  # torch comes with it

            check_installed(f"--base {base}")

    @abstractmethod
    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """The answer, in plain JSON values.

        Args:
            measurement: the question.
            watch: told of progress.
            inputs: weights and data; where it does not look at them the architecture alone.
        """


class Bundle(ABC):
    """Several experiments under one name: what they share is run once, each has tables in its own folder.

    Attributes:
        name: what `run` calls it.
        reproduces: in one line.
        needs: in one line.
        members: names of its experiments.
    """

    name: ClassVar[str]
    reproduces: ClassVar[str]
    needs: ClassVar[str]
    members: ClassVar[tuple[str, ...]]

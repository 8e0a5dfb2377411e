"""What is asked for with its data read and its weights located."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from smt_bench.data.datasets import HELDOUT_SEED, DataSet, unread
from smt_bench.data.fetch import fetch_data
from smt_bench.data.general import EMBEDDED, general
from smt_bench.data.loading import load
from smt_bench.models import build, locate
from smt_bench.questions import suits
from smt_bench.questions.fitting import Fitting


class Opened(Fitting):
    """Adds data and weights, which `open` looks for."""

    def data_of(self, seed: int, mixture: str | None = None, only: tuple[str, ...] = ()) -> DataSet:
        """The data of a run: the same for all seeds, unless they vary with it.

        Args:
            seed: of the run.
            mixture: which, where the family has several training sets; None: the recipe's.
            only: tasks whose training records are used; empty: all.
        """
        seed = seed if self.request.vary else self.data.seed
        mixture = mixture or self.mixture
        if (seed, mixture, only) == (self.data.seed, self.mixture, ()):
            return self.data
        if (seed, mixture, only) not in self._loaded:
            whole = self.data_of(seed, mixture).only(only) if only else self._load(seed, mixture)
            self._loaded[seed, mixture, only] = whole
        return self._loaded[seed, mixture, only]

    @property
    def all_data(self) -> list[DataSet]:
        """What was loaded so far."""
        return [self.data, *self._loaded.values()]

    def _load(self, seed: int, mixture: str) -> DataSet:
        r = self.request
        tasks = self.chosen.tasks_of(mixture) if mixture else r.own_tasks
        data = load(
            self._source, self.family.name, tasks, self.recipe.heldout, self._limit, seed, mixture, r.limit_heldout
        )
        if r.harness_tasks and not r.own_tasks:  # test sets were asked for, and none of the family's among them
            data = replace(data, tests={}, missing=[], items={})
        if r.forgetting is None:
            return data
        if r.forgetting == EMBEDDED and self.entry.embedded is None:
            raise ValueError(
                f"--forgetting {EMBEDDED}: {self.entry.name} was not trained on that text: name a file or hub set"
            )
        name, texts = general(r.forgetting)
        return replace(data, losses={**data.losses, name: texts})

    @cached_property  # what cannot be downloaded is tried once
    def _source(self) -> str | None:
        """The folder of the data; None: embedded."""
        if self.request.data is None and self.entry.embedded is None:
            return str(fetch_data(self.family, self.say, self.request.own_tasks))
        return self.request.data

    def open(self) -> None:
        """Reads data and locates the weights; downloads where neither is here."""
        r = self.request
        if self.entry.weightless:
            locate.locate(r.model)  # refuses it, before anything is fetched
        self.chosen.look(self._source)
        self.data = self._load(HELDOUT_SEED, self.mixture)
        self.located = locate.locate(r.model)
        for mixture in self.chosen.names if self.mixture else [""]:
            data = self.data_of(HELDOUT_SEED, mixture)
            suits.check(self.located, data, self.recipe, self.template, r.protocol or self.recipe.protocol)
        self.opened = True

    def open_without_data(self) -> None:
        """Stands in for `open` where nothing will run (`plan`): published sizes for the data, shapes for the weights."""
        self.chosen.look(None)
        self.data = unread(self.family.name, self.recipe.heldout, self.mixture)
        for name in self.chosen.names if self.mixture else []:
            self._loaded[self.data.seed, name, ()] = unread(self.family.name, self.recipe.heldout, name)
        self.located = locate.Located(build.architecture(self.request.model, self.request.layers), Path())
        self.opened = True

    @property
    def steps(self) -> int:
        """Optimizer steps: asked for, the recipe's, or its epochs over the training set."""
        return self.steps_over(None)

    def steps_over(self, data: DataSet | None) -> int:
        """The same over other training data; None: those of the request, which are only looked at where they decide."""
        if self.request.steps is not None:
            return self.request.steps
        if self.recipe.steps is not None:
            return self.recipe.steps
        return math.ceil(len((data or self.data).train) * self.recipe.epochs / self.recipe.batch_size)

    @property
    def _limit(self) -> int | None:
        """Test examples per task at most."""
        return self.request.limit if self.request.limit is not None else self.recipe.limit

    def _harness(self) -> dict[str, str]:
        """lm-eval's own tasks, and what the key says of them."""
        names = self.request.harness_tasks
        if names and not self._described:
            from smt_bench.evaluation.harness import described  # seconds to import

            self._described = {name: described(name, self._limit) for name in names}
        return self._described

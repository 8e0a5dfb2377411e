"""From what a user asks for to a list of runs: every check that needs no weights happens here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smt_bench import methods
from smt_bench.data import families
from smt_bench.data.datasets import HELDOUT_SEED, DataSet, content_hash, load, unread
from smt_bench.data.fetch import fetch_data
from smt_bench.evaluation.protocols import EVAL_BATCH, EVALUATION_VERSION, EvalSettings
from smt_bench.machine import facts, fits
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.methods.base import Capacity, Shapes
from smt_bench.methods.modules import total_parameters, unfit
from smt_bench.models import build, locate, registry
from smt_bench.questions.capacity import check_fraction, check_layers, method_of, setting_named
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.recipes import Recipe, recipe
from smt_bench.questions.request import ALL, Request
from smt_bench.questions.suits import check_lengths, check_responses, check_tokens
from smt_bench.records.runs import DataRef, EvalRef, Measurement, MethodRef, Run, TrainRef


class Planner:
    """Builds runs for one request; the experiments call `run`.

    Args:
        request: what was asked for.
        here: the machine; refuses models that cannot be trained on it.
        say: one-line messages, e.g. on downloads.
        spread: of each run over the machine.
        shared: other experiments share the request, so that an option may be for them.

    Raises:
        ValueError: anything about the request that cannot work.
    """

    def __init__(
        self,
        request: Request,
        here: fits.Machine,
        say: Any = lambda text: None,
        spread: Spread = ALONE,
        shared: bool = False,
    ) -> None:
        self.request = request
        self.here, self.spread = here, spread
        self.say = say
        self.shared = shared
        self.entry = registry.find(request.model)
        self.family = families.find(request.family)
        self.recipe: Recipe = recipe(request.recipe or self.entry.recipe, self.family.name, request.preset)
        outline = build.build(request.model)
        self.shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in outline.named_parameters()}
        self.unfit = unfit(outline)
        self.data: DataSet
        self.located: locate.Located
        self.opened = False
        self._left_out: dict[str, str] = {}  # under `--methods all`, by what is said of it

    @property
    def template(self) -> str:
        """The prompt template: the recipe's, else the family's."""
        return self.recipe.template or self.family.template

    def method_names(self, default: Sequence[str]) -> list[str]:
        """The methods asked for, else the default ones; of "all" those that can do it, the others named with their reasons.

        Raises:
            ValueError: of all methods none can.
        """
        if ALL not in self.request.methods:
            return list(dict.fromkeys(self.request.methods or default))
        for name, why in methods.REGISTRY.idle().items():
            self._leave_out(name, why)
        names = [name for name in methods.REGISTRY.names() if self._can(name)]
        if not names:
            raise ValueError(f"--methods {ALL}: none can do it: name one, which says why")
        return names

    def takes(self, name: str, fraction: float | None, **changes: Any) -> bool:
        """Whether a cell is to be run: always where its method was named; under "all" where the model can give the fraction."""
        if ALL not in self.request.methods or name in self.request.methods:
            return True
        try:
            self.check_capacity(name, fraction, **changes)
        except ValueError as error:
            self._leave_out(name if fraction is None else f"{name} at {100 * fraction:g} %", str(error))
            return False
        return True

    def _can(self, name: str) -> bool:
        """Whether a method fits model and machine; named ones are for the usual checks to refuse."""
        try:
            methods.find(name)
            if name not in self.request.methods:
                self.check_machine([name])
        except ValueError as error:
            self._leave_out(name, str(error))
            return False
        return True

    def _leave_out(self, what: str, why: str) -> None:
        """Says so, once."""
        if what not in self._left_out:
            self._left_out[what] = why.splitlines()[0]
            self.say(f"note: {what} left out: {self._left_out[what]}")

    def only(self, name: str) -> list[str]:
        """The one method of an experiment that is about it.

        Raises:
            ValueError: others were asked for.
        """
        r = self.request
        others = [other for other in r.methods if other != name]
        if others and not self.shared:
            raise ValueError(f"--methods {','.join(others)}: {r.experiment} is about {name} alone: leave it out")
        return [name]

    def fractions(self) -> list[float]:
        """Fractions of all parameters, from the percentages asked for or the recipe's."""
        return list(dict.fromkeys(round(p / 100, 12) for p in self.request.fractions_pct or self.recipe.fractions_pct))

    def seeds(self) -> list[int]:
        """Seeds asked for or the recipe's."""
        return list(dict.fromkeys(self.request.seeds or self.recipe.seeds))

    def measurement(self, kind: str, version: int, settings: dict[str, Any], seed: int) -> Measurement:
        """A question about cost on this machine, on the model's architecture with random weights.

        Raises:
            ValueError: a model that its name alone does not identify.
        """
        if self.entry.name != self.request.model:
            raise ValueError(
                f"--model {self.request.model}: {kind} measures registered models and Hugging Face ids: choose one of "
                f"{', '.join(registry.REGISTRY)}"
            )
        model = build.architecture(self.request.model)
        return Measurement(kind, version, model, settings, facts.one_line(), seed)

    def trained_measurement(self, kind: str, version: int, settings: dict[str, Any], seed: int) -> Measurement:
        """A question about the trained weights and the data, whose answer depends on no machine.

        `settings` are completed by the training data: what they are, their hash and how they become a loss.
        """
        assert self.opened
        data = {"family": self.data.family, "train_sha256": self.data.train_sha256, "heldout": len(self.data.heldout)}
        r = self.recipe
        loss = {"template": self.template, "train_on_inputs": r.train_on_inputs, "cutoff": r.cutoff}
        return Measurement(kind, version, self.located.ref, {**settings, "data": data | loss}, "any", seed)

    def check_machine(self, names: Sequence[str]) -> None:
        """Refuses what this machine cannot hold, before any file is touched."""
        dense: list[str] = []
        sparse: list[str] = []
        for name in names:
            config = self.config(name, 1000)
            with setting_named(name, config):
                method = methods.build(name, config, 0.01, 0, 1000)
                check_layers(method.config.layers, self.unfit, self.shapes)
            (dense if method.trains_dense else sparse).append(name)
        total = total_parameters(self.shapes)
        command = f"python -m smt_bench run {self.request.experiment} --model"
        small = [entry for entry in registry.REGISTRY.values() if entry.small]
        instead = [f"{command} {entry.name}" + ("" if entry.embedded else " --data FOLDER") for entry in small]
        fits.check(self.request.model, total, dense, sparse, self.here, self.spread, instead)

    def open(self) -> None:
        """Reads data and locates the weights; downloads where neither is here."""
        r = self.request
        source = r.data
        if self.entry.weightless:
            locate.locate(r.model)  # refuses it, before anything is fetched
        if source is None and self.entry.embedded is None:
            source = str(fetch_data(self.family, self.say))
        limit = r.limit if r.limit is not None else self.recipe.limit
        self.data = load(source, self.family.name, r.tasks, self.recipe.heldout, limit)
        self.located = locate.locate(r.model)
        self._check_suits()
        self.opened = True

    def _check_suits(self) -> None:
        """Refuses a tokenizer, a model or data that do not fit together, before anything is trained.

        Raises:
            ValueError: what, the value, the remedy.
        """
        name, r, protocol = self.entry.name, self.recipe, self.request.protocol or self.recipe.protocol
        template, data = self.template, self.data
        model, tokenizer = build.outline(self.located), build.tokenizer(self.located)
        judged = EvalSettings(
            protocol, r.beams, r.max_new_tokens, r.max_new_tokens_math, EVAL_BATCH, template, r.repetition_penalty
        )
        check_tokens(name, tokenizer, model)
        check_responses(data, tokenizer, template, r.cutoff)
        check_lengths(name, tokenizer, model, r.cutoff, judged, data.tests)

    def open_without_data(self) -> None:
        """Stands in for `open` where nothing will run (`plan`): published sizes for the data, shapes for the weights."""
        self.data = unread(self.family.name, self.recipe.heldout)
        self.located = locate.Located(build.architecture(self.request.model), Path())
        self.opened = True

    @property
    def steps(self) -> int:
        """Optimizer steps: asked for, the recipe's, or its epochs over the training set."""
        if self.request.steps is not None:
            return self.request.steps
        if self.recipe.steps is not None:
            return self.recipe.steps
        return math.ceil(len(self.data.train) * self.recipe.epochs / self.recipe.batch_size)

    def config(self, name: str, steps: int, **changes: Any) -> dict[str, Any]:
        """A method's full settings for a run of so many steps: the recipe's, with `changes`, then what was asked for."""
        asked = {setting: value for method, setting, value in self.request.settings if method == name}
        values = {**self.recipe.config(name, steps), **changes, **asked}
        return methods.find(name).Config.from_dict(values).to_dict()

    def check_capacity(self, name: str, fraction: float | None, **changes: Any) -> None:
        """Refuses a capacity that this model cannot give; needs no data and no weights.

        Args:
            name: method.
            fraction: requested trainable fraction; None for methods without one.
            **changes: method settings that differ from the recipe's.

        Raises:
            ValueError: what, the value, the remedy.
        """
        steps = self.request.steps or self.recipe.steps or 1000
        config = self.config(name, steps, **changes)
        with setting_named(name, config):
            method = methods.build(name, config, fraction, 0, steps)
            check_layers(method.config.layers, self.unfit, self.shapes)
            capacity = method.capacity(self.shapes)
        check_fraction(name, fraction, capacity)

    def run(
        self,
        name: str,
        fraction: float | None,
        seed: int,
        lr: float | None = None,
        probes: tuple[str, ...] = (),
        **changes: Any,
    ) -> tuple[Run, Capacity]:
        """One run and its capacity.

        Args:
            name: method.
            fraction: requested trainable fraction; None for methods without one.
            seed: seed.
            lr: peak learning rate; None: the recipe's.
            probes: what to record on the way.
            **changes: method settings that differ from the recipe's.

        Raises:
            ValueError: the request is impossible for this model.
        """
        run = self.question(name, fraction, seed, lr, probes, **changes)
        with setting_named(name, run.method.config):
            check_layers(methods.find(name).Config.from_dict(run.method.config).layers, self.unfit, self.shapes)
        _, capacity = method_of(run, self.shapes)
        return (run if capacity.trainable else run.without_training()), capacity

    def question(
        self,
        name: str,
        fraction: float | None,
        seed: int,
        lr: float | None = None,
        probes: tuple[str, ...] = (),
        **changes: Any,
    ) -> Run:
        """`run` without asking whether the model can give the fraction."""
        assert self.opened
        r, d, steps = self.recipe, self.data, self.steps
        method = methods.find(name)
        return Run(
            model=self.located.ref,
            data=DataRef(
                d.family,
                d.train_source,
                d.train_sha256,
                len(d.heldout),
                HELDOUT_SEED,
                self.template,
                r.train_on_inputs,
                r.cutoff,
            ),
            method=MethodRef(name, method.version, fraction, self.config(name, steps, **changes)),
            train=TrainRef(
                lr=r.lr(name) if lr is None else lr,
                steps=steps,
                batch_size=r.batch_size,
                micro_batch_size=r.micro_batch_size,
                lr_warmup_steps=min(r.lr_warmup_steps, max(1, steps // 4)),
                weight_decay=r.weight_decay,
                betas=r.betas,
                eps=1e-8,
                max_grad_norm=r.max_grad_norm,
                precision=fits.precision(self.here),
                gradient_checkpointing=r.gradient_checkpointing,
                schedule=r.schedule,
            ),
            evaluation=EvalRef(
                self.request.protocol or r.protocol,
                EVALUATION_VERSION,
                {task: content_hash(examples) for task, examples in d.tests.items()},
                r.beams,
                r.max_new_tokens,
                r.max_new_tokens_math,
                r.repetition_penalty,
            ),
            seed=seed,
            probes=probes,
        )

    def inputs(self) -> Inputs:
        """What executing the runs needs."""
        return Inputs(self.located, self.data, fits.device_map(total_parameters(self.shapes), self.here))

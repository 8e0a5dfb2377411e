"""From what a user asks for to a list of runs: every check that needs no weights happens here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from smt_bench import methods
from smt_bench.data import families
from smt_bench.data.datasets import HELDOUT_SEED, DataSet, content_hash, load, unread
from smt_bench.data.fetch import fetch_data
from smt_bench.evaluation.beams import prompt_bytes
from smt_bench.evaluation.protocols import EVALUATION_VERSION
from smt_bench.machine import facts, fits, states
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.methods import nf4
from smt_bench.methods.base import Capacity, Method, Shapes
from smt_bench.models import build, locate, precision, registry
from smt_bench.models.preflight import check_attached
from smt_bench.questions import suits
from smt_bench.questions.capacity import check_fraction, demand_of, method_of, setting_named
from smt_bench.questions.choice import MethodChoice
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.recipes import Recipe, recipe
from smt_bench.questions.request import TUNING_SEEDS, Request
from smt_bench.records.runs import DataRef, EvalRef, Measurement, MethodRef, Run, TrainRef

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Planner(MethodChoice):
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
        if request.base:
            self.recipe = replace(self.recipe, base=request.base)
        self.inventory = build.listed(request.model, request.layers)
        self.shapes: Shapes = self.inventory.shapes
        self.data: DataSet
        self._others: dict[int, DataSet] = {}
        self.located: locate.Located
        self.opened = False
        self._attached: set[str] = set()
        self.left_out: dict[str, str] = {}
        self.winners: Mapping[str, Any] = {}  # of a tuning, by method; see `questions.tuned`

    @property
    def template(self) -> str:
        """The prompt template: the recipe's, else the family's."""
        return self.recipe.template or self.family.template

    def fractions(self) -> list[float]:
        """Fractions of all parameters, from the percentages asked for or the recipe's."""
        return list(dict.fromkeys(round(p / 100, 12) for p in self.request.fractions_pct or self.recipe.fractions_pct))

    def seeds(self) -> list[int]:
        """Seeds asked for or the recipe's; of runs that choose settings as many of those that are kept for this."""
        first = TUNING_SEEDS if self.request.tunes else 0
        return list(dict.fromkeys(self.request.seeds or (first + seed for seed in self.recipe.seeds)))

    def data_of(self, seed: int) -> DataSet:
        """The data of a run: the same for all seeds, unless they vary with it."""
        if not self.request.vary or seed == self.data.seed:
            return self.data
        if seed not in self._others:
            self._others[seed] = self._load(seed)
        return self._others[seed]

    def _load(self, seed: int = HELDOUT_SEED) -> DataSet:
        r = self.request
        source = r.data
        if source is None and self.entry.embedded is None:
            source = str(fetch_data(self.family, self.say))
        limit = r.limit if r.limit is not None else self.recipe.limit
        return load(source, self.family.name, r.tasks, self.recipe.heldout, limit, seed)

    def measurement(self, kind: str, version: int, settings: dict[str, Any], seed: int) -> Measurement:
        """A question about cost on this machine, on the model's architecture with random weights."""
        model = build.architecture(self.request.model, self.request.layers)
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
        demands = [self.demand(name) for name in names]
        command = f"python -m smt_bench run {self.request.experiment} --model"
        small = [entry for entry in registry.REGISTRY.values() if entry.small]
        instead = [f"{command} {entry.name}" + ("" if entry.embedded else " --data FOLDER") for entry in small]
        tokens = self.recipe.micro_batch_size * self.recipe.cutoff
        judging = self._judging() if self.here.gpus else 0
        fits.check(self.request.model, demands, self.here, self.spread, instead, self.precision, tokens, judging)

    def _judging(self) -> int:
        """Bytes of one prompt of the cut-off's length while it is answered."""
        r = self.recipe
        generates = (self.request.protocol or r.protocol) == "llm-adapters"
        length = r.cutoff + (max(r.max_new_tokens, r.max_new_tokens_math) if generates else 0)
        element = states.WEIGHT[self.precision]
        return prompt_bytes(build.config(self.request.model), r.beams, length, element, generates)

    def demand(self, name: str) -> states.Demand:
        """What a method needs of memory by rule, at the largest fraction asked for; one it cannot take is refused elsewhere."""
        config, weights = self.config(name, 1000), None
        if self.recipe.base:
            weights = self.inventory.weight_bytes(states.WEIGHT[self.precision], self.recipe.base)
        kind, total = methods.find(name), self.inventory.total
        fraction = max(self.fractions()) if kind.takes_fraction else None
        with setting_named(name, config):
            method = methods.build(name, config, fraction, 0, 1000)
        try:
            capacity = method.capacity(self.shapes)
        except ValueError:
            return demand_of(method, total, round((fraction or 0) * total), weights=weights)
        return demand_of(method, total, capacity.trainable, capacity.kept, weights)

    def open(self) -> None:
        """Reads data and locates the weights; downloads where neither is here."""
        r = self.request
        if self.entry.weightless:
            locate.locate(r.model)  # refuses it, before anything is fetched
        self.data = self._load()
        self.located = locate.locate(r.model)
        suits.check(self.located, self.data, self.recipe, self.template, r.protocol or self.recipe.protocol)
        self.opened = True

    def open_without_data(self) -> None:
        """Stands in for `open` where nothing will run (`plan`): published sizes for the data, shapes for the weights."""
        self.data = unread(self.family.name, self.recipe.heldout)
        self.located = locate.Located(build.architecture(self.request.model, self.request.layers), Path())
        self.opened = True

    @property
    def precision(self) -> str:
        """fp32 or bf16: asked for, the model's, or by its size; the same on every machine."""
        return self.request.precision or self.entry.precision or precision.default(self.inventory.total)

    def half(self, name: str, fraction: float | None, config: dict[str, Any], steps: int) -> str | None:
        """How a method trains in bf16, in words for the key; None in float32."""
        return methods.build(name, config, fraction, 0, steps).half if self.precision == "bf16" else None

    @property
    def steps(self) -> int:
        """Optimizer steps: asked for, the recipe's, or its epochs over the training set."""
        if self.request.steps is not None:
            return self.request.steps
        if self.recipe.steps is not None:
            return self.recipe.steps
        return math.ceil(len(self.data.train) * self.recipe.epochs / self.recipe.batch_size)

    def config(self, name: str, steps: int, **changes: Any) -> dict[str, Any]:
        """A method's full settings for a run of so many steps: the recipe's, with `changes`, then what was asked for.

        Layers become those that the model has; what it lacks of the method's usual ones is left out.

        Raises:
            ValueError: a setting, or a layer, that there is not.
        """
        asked = {setting: value for method, setting, value in self.request.settings if method == name}
        usual, kind = self.recipe.config(name, steps), methods.find(name).Config
        if self.recipe.base:
            usual = {**usual, **methods.find(name).over_nf4}
        made, default = kind.from_dict({**usual, **changes, **asked}), kind.from_dict(usual).layers
        if not made.layers:
            return made.to_dict()
        layers, lenient = made.layers, made.layers == default
        if lenient and self.request.targets:
            return made.with_layers(self._asked_layers()).to_dict()
        with setting_named(name, made.to_dict()):
            return made.with_layers(self.inventory.resolve(layers, lenient)).to_dict()

    def as_usual(self) -> Planner:
        """The planner as it were with the model's recipe and no method's setting or layers asked for."""
        made = copy(self)
        made.request = replace(self.request, settings=(), targets=(), recipe=None)
        made.recipe = recipe(self.entry.recipe, self.family.name, self.request.preset)
        return made

    def _asked_layers(self) -> tuple[str, ...]:
        try:
            return self.inventory.resolve(self.request.targets)
        except ValueError as error:
            raise ValueError(f"--{error}") from None

    def has(self, roles: Sequence[str]) -> tuple[str, ...]:
        """Those of some roles that the model has, in a layer that can be trained."""
        return tuple(role for role in roles if role in self.inventory.offered)

    def trains(self, name: str) -> bool:
        """Whether a method trains anything; the untouched model does not."""
        method = methods.find(name)
        if method.takes_fraction:
            return True
        return methods.build(name, self.config(name, 1000), None, 0, 1000).capacity(self.shapes).trainable > 0

    def check_capacity(self, name: str, fraction: float | None, base: str | None = None, **changes: Any) -> None:
        """Refuses a capacity that this model cannot give; needs no data and no weights.

        Args:
            name: method.
            fraction: requested trainable fraction; None for methods without one.
            base: of the frozen weights; None: as asked for.
            **changes: method settings that differ from the recipe's.

        Raises:
            ValueError: what, the value, the remedy.
        """
        steps = self.request.steps or self.recipe.steps or 1000
        config = self.config(name, steps, **changes)
        with setting_named(name, config):
            method = methods.build(name, config, fraction, 0, steps)
            self.check_base(method, self.recipe.base if base is None else base)
            capacity = method.capacity(self.shapes)
        check_fraction(name, fraction, capacity)
        self._check_attached(name, method, capacity)

    def run(
        self,
        name: str,
        fraction: float | None,
        seed: int,
        lr: float | None = None,
        probes: tuple[str, ...] = (),
        recipe: Mapping[str, Any] = NOTHING,
        tuning: str = "",
        **changes: Any,
    ) -> tuple[Run, Capacity]:
        """One run and its capacity.

        Args:
            name: method.
            fraction: requested trainable fraction; None for methods without one.
            seed: seed.
            lr: peak learning rate; None: the recipe's.
            probes: what to record on the way.
            recipe: fields of the recipe with other values.
            tuning: what found rate and settings.
            **changes: method settings that differ from the recipe's.

        Raises:
            ValueError: the request is impossible for this model.
        """
        run = self.question(name, fraction, seed, lr, probes, recipe, tuning, **changes)
        method, capacity = method_of(run, self.shapes)
        with setting_named(name, method.config.to_dict()):
            self.check_base(method, run.train.base)
        self._check_attached(name, method, capacity)
        return (run if capacity.trainable else run.without_training()), capacity

    def check_base(self, method: Method, base: str) -> None:
        """Refuses a base of 4 bits under a method that writes to it, and what does not go with one.

        Args:
            method: with its settings.
            base: "nf4", or "": whole.

        Raises:
            ValueError: why, and the remedy.
        """
        if not base:
            return
        if why := method.whole_base:
            told = (
                why if "=" in why.partition(":")[0] else f"{method.name}: {why}"
            )  # a setting stands first, to be named
            raise ValueError(f"{told} (--base {base})")
        if self.spread.zero or self.spread.offload:
            raise ValueError(
                f"--base {base}: nothing trains densely over it that ZeRO could shard: leave --zero and --offload out"
            )
        self.check_library(base)

    def stands(self, name: str, base: str | None = None) -> bool:
        """Whether a method that was not named can do with a base: the one that was asked for, unless another is given."""
        base = self.recipe.base if base is None else base
        if not base:
            return True
        kind = methods.find(name)
        config = self.config(name, 1000, **kind.over_nf4)
        why = methods.build(name, config, self.fractions()[0] if kind.takes_fraction else None, 0, 1000).whole_base
        if why is not None:
            self._leave_out(name, f"{why} (--base {base})")
        return why is None

    def check_library(self, base: str) -> None:
        """Refuses a base whose library is not installed.

        Raises:
            ValueError: it is not.
        """
        nf4.check_installed(f"--base {base}")

    def _check_attached(self, name: str, method: Method, capacity: Capacity) -> None:
        """Once per cell; the registered models are known to be fit for all."""
        kind = f"{name} {method.fraction} {json.dumps(method.config.to_dict(), sort_keys=True)}"
        if self.entry.llama or self.entry.embedded or not capacity.trainable or kind in self._attached:
            return
        check_attached(method, capacity, build.build(self.request.model, layers=self.request.layers))
        self._attached.add(kind)

    def question(
        self,
        name: str,
        fraction: float | None,
        seed: int,
        lr: float | None = None,
        probes: tuple[str, ...] = (),
        recipe: Mapping[str, Any] = NOTHING,
        tuning: str = "",
        **changes: Any,
    ) -> Run:
        """`run` without asking whether the model can give the fraction."""
        assert self.opened
        r, d = replace(self.recipe, **recipe), self.data_of(seed)
        steps: int = recipe["steps"] if "steps" in recipe else self.steps  # noqa: SIM401 - may have to read the data
        method, (select, every) = methods.find(name), self._selection(steps)
        config = self.config(name, steps, **changes)
        chosen = sum(d.tune(d.seed))
        if select == "best" and not chosen:
            raise ValueError(
                f"--select best: none of the {len(d.heldout)} held-out examples can be set apart to choose by: hold out more"
            )
        return Run(
            model=self.located.ref,
            data=DataRef(
                d.family,
                d.train_source,
                d.train_sha256,
                len(d.heldout),
                d.seed,
                self.template,
                r.train_on_inputs,
                r.cutoff,
                chosen,
                d.seed if chosen else 0,
                "seed" if self.request.vary else "",
            ),
            method=MethodRef(name, method.version, fraction, config, self.half(name, fraction, config, steps)),
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
                precision=self.precision,
                gradient_checkpointing=r.gradient_checkpointing,
                schedule=r.schedule,
                select=select,
                select_every=every,
                base=r.base,
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
            tuning=tuning,
        )

    def _selection(self, steps: int) -> tuple[str, int]:
        """Which weights are judged, and every how many steps they are looked at."""
        r = self.request
        if r.select != "best":
            return "last", 0
        if r.select_every is not None and r.select_every > steps:
            raise ValueError(
                f"--select-every {r.select_every}: a run has {steps} steps, only its last would be looked at: choose fewer"
            )
        return "best", min(steps, r.select_every or self.recipe.select_every or max(1, steps // 10))

    def measured(self) -> Inputs:
        """What a measurement on random weights needs: the architecture, no file of weights and no data."""
        located = locate.Located(build.architecture(self.request.model, self.request.layers), Path(self.request.model))
        return Inputs(located, unread(self.family.name, self.recipe.heldout))

    def inputs(self, seed: int | None = None) -> Inputs:
        """What executing the runs needs; those of one seed, where the data vary with it."""
        data = self.data if seed is None else self.data_of(seed)
        return Inputs(self.located, data, fits.device_map(self.inventory.total, self.here))

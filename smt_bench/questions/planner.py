"""From what a user asks for to a list of runs: every check that needs no weights happens here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from smt_bench import methods
from smt_bench.data import families
from smt_bench.data.datasets import HELDOUT_SEED, DataSet, load, unread
from smt_bench.data.families import NO_TRAINING
from smt_bench.data.fetch import fetch_data
from smt_bench.data.general import EMBEDDED, general
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
from smt_bench.questions.mixtures import Mixtures
from smt_bench.questions.own_recipe import Own, applied, differences
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
        self.recipe: Recipe = self.recipe_of(request)
        if request.base:
            self.recipe = replace(self.recipe, base=request.base)
        self.inventory = build.listed(request.model, request.layers)
        self.shapes: Shapes = self.inventory.shapes
        self.chosen = Mixtures(self.family, request, self.entry.embedded is not None, say)
        self.data: DataSet
        self._loaded: dict[tuple[int, str, tuple[str, ...]], DataSet] = {}
        self.located: locate.Located
        self.opened = False
        self._described: dict[str, str] = {}
        self._attached: set[str] = set()
        self.left_out: dict[str, str] = {}
        self.winners: Mapping[str, Any] = {}  # of a tuning, by method; see `questions.tuned`

    def recipe_of(self, request: Request) -> Recipe:
        """The recipe asked for, or the model's, with what was asked for in place of its values.

        Raises:
            ValueError: values that do not go together.
        """
        name = request.recipe or request.recipe_file.get("base") or self.entry.recipe
        file, options = Own.of(request.recipe_file, "--recipe"), Own.of(request.changes)
        return applied(recipe(name, self.family.name, request.preset, partial(applied, own=file)), options)

    @property
    def mixture(self) -> str:
        """The training set where a run names none; "" for families with one."""
        return self.recipe.mixture or self.chosen.first

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
    def precision(self) -> str:
        """fp32 or bf16: asked for, the model's, or by its size; the same on every machine."""
        asked: str | None = self.request.precision or self.request.recipe_file.get("precision")
        return asked or self.entry.precision or precision.default(self.inventory.total)

    def half(self, name: str, fraction: float | None, config: dict[str, Any], steps: int) -> str | None:
        """How a method trains in bf16, in words for the key; None in float32."""
        return methods.build(name, config, fraction, 0, steps).half if self.precision == "bf16" else None

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
        made.request = replace(self.request, settings=(), targets=(), recipe=None, recipe_file={}, changes={})
        made.recipe = made.recipe_of(made.request)
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
        only: tuple[str, ...] = (),
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
            only: the tasks whose training records are used; empty: all.
            **changes: method settings that differ from the recipe's.

        Raises:
            ValueError: the request is impossible for this model.
        """
        run = self.question(name, fraction, seed, lr, probes, recipe, tuning, only, **changes)
        method, capacity = method_of(run, self.shapes)
        if capacity.trainable and not self.data_of(seed).train:
            mixture = "" if self.family.mixture is None else f"ft-training_set/{self.family.mixture} or "
            where = "" if self.family.own else f" ({mixture}dataset/<task>/train.json)"
            raise ValueError(
                f"no training set for {self.family.name} here{where}: without one only the untouched model can be judged: "
                "--methods base"
            )
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
        only: tuple[str, ...] = (),
        **changes: Any,
    ) -> Run:
        """`run` without asking whether the model can give the fraction."""
        assert self.opened
        r = replace(self.recipe, **recipe)
        d = self.data_of(seed, r.mixture, only)
        steps: int = recipe["steps"] if "steps" in recipe else self.steps_over(d)  # noqa: SIM401 - may have to read the data
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
                "+".join(d.trains),
                d.aside,
            ),
            method=MethodRef(name, method.version, fraction, config, self.half(name, fraction, config, steps)),
            train=TrainRef(
                lr=r.lr(name) if lr is None else lr,
                steps=steps,
                batch_size=r.batch_size,
                micro_batch_size=r.micro_batch_size,
                lr_warmup_steps=r.warmup(steps),
                weight_decay=r.decay(name),
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
                {**d.test_hashes, **self._harness()},
                r.beams,
                r.max_new_tokens,
                r.max_new_tokens_math,
                r.repetition_penalty,
                d.loss_hashes,
            ),
            seed=seed,
            probes=probes,
            tuning=tuning,
        )

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
        if self.family.own is not None:
            nothing = DataSet(self.family.name, NO_TRAINING, [], [], {})
            return Inputs(located, nothing, source_of_data=self.request.data)
        return Inputs(located, unread(self.family.name, self.recipe.heldout))

    def inputs(self, run: Run | None = None) -> Inputs:
        """What executing the runs needs; of one: its data, and what of its recipe is otherwise."""
        data, own = self.data, self._own(None)
        if run is not None:
            own = self._own(run.method.name)
            only = tuple(run.data.only.split("+")) if run.data.only else ()
            data = self.data_of(run.seed, None, only)
            if self.mixture:
                found = (self.data_of(run.seed, name, only) for name in self.chosen.names)
                data = next(d for d in found if d.train_source == run.data.train)
        device_map, r = fits.device_map(self.inventory.total, self.here), self.request
        return Inputs(self.located, data, device_map, allow_code=r.allow_code, recipe=own, limit=self._limit)

    def _own(self, method: str | None) -> dict[str, Any]:
        """Which recipe, and what of it is otherwise because it was asked for; nothing where it is as it is."""
        if not (self.request.recipe_file or self.request.changes):
            return {}
        plain = replace(self.request, recipe_file={}, changes={})
        plain = replace(plain, recipe=self.request.recipe or self.request.recipe_file.get("base"))
        trains = method is not None and self.trains(method)
        apart = differences(self.recipe_of(plain), self.recipe, method if trains else None)
        return {"name": plain.recipe or self.entry.recipe, "changed": apart}

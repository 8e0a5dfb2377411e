"""From what a user asks for to a list of runs: every check that needs no weights happens here, or in what it stands on.

`asked`: what is asked for; `fitting`: whether that can be; `opened`: with its data; here: as questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from smt_bench import methods
from smt_bench.data.datasets import WHOLE, DataSet, unread
from smt_bench.data.family import NO_TRAINING
from smt_bench.evaluation.protocols import EVALUATION_VERSION
from smt_bench.machine import facts, fits
from smt_bench.methods.base import Capacity
from smt_bench.models import build, locate
from smt_bench.questions import presets
from smt_bench.questions.capacity import method_of, setting_named
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.opened import Opened
from smt_bench.questions.own_recipe import differences
from smt_bench.records.runs import ANY_MACHINE, DataRef, EvalRef, Measurement, MethodRef, Run, TrainRef

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Planner(Opened):
    """Builds runs for one request; the experiments call `run`; arguments as `Asked`'s."""

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
        return Measurement(kind, version, self.located.ref, {**settings, "data": data | loss}, ANY_MACHINE, seed)

    def half(self, name: str, fraction: float | None, config: dict[str, Any], steps: int) -> str | None:
        """How a method trains in bf16, in words for the key; None in float32."""
        return methods.build(name, config, fraction, 0, steps).half if self.precision == "bf16" else None

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
        if d.rest and d.one_sided(d.seed) and (chosen or self.trains(name)):
            lacking = "is reported" if chosen else "choices are made by"
            raise ValueError(
                f"--limit-heldout {len(d.heldout)}: none of these is one that {lacking}: look at more, or leave it out"
            )
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
                WHOLE if d.aside else "",
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
        """What a measurement needs that looks at no data of a family: the architecture, and where data of its own lie."""
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

    @property
    def outcome(self) -> dict[str, str]:
        """As `presets.outcome`."""
        return presets.outcome(self._recipe_name(self.request), self.family.name, self.request.preset)

    def rates_of(self, method: str) -> str:
        """The tuning behind a method's rate and settings in the preset; "": none is, or another rate was asked for."""
        own = self._own(method)
        found: str = own.get("tuning", "")
        return "" if "lr" in own.get("changed", {}) else found

    def _own(self, method: str | None) -> dict[str, Any]:
        """Which recipe, its preset, and what is otherwise because it was asked for; nothing where it is as it is."""
        r, name = self.request, self._recipe_name(self.request)
        trains = method is not None and self.trains(method)
        preset = {}
        if method is not None and trains and not (r.tunes or r.tuned):
            preset = presets.origin(name, self.family.name, r.preset, method)
        if not (r.recipe_file or r.changes or preset):
            return {}
        plain = replace(r, recipe_file={}, changes={}, recipe=name)
        apart = differences(self.recipe_of(plain), self.recipe, method if trains else None)
        if r.steps is not None:  # a file may say otherwise; the steps that were taken stand in every table
            apart = {what: values for what, values in apart.items() if what not in ("steps", "epochs")}
        return {"name": name, "changed": apart, **preset}

"""Whether what is asked for fits the machine, the model and the base of its weights: what does not is refused, or left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from smt_bench import methods
from smt_bench.evaluation.beams import prompt_bytes
from smt_bench.machine import fits, states
from smt_bench.methods import nf4
from smt_bench.methods.base import Capacity, Method
from smt_bench.models import build, registry
from smt_bench.models.preflight import check_attached
from smt_bench.questions.asked import Asked
from smt_bench.questions.capacity import check_fraction, demand_of, setting_named


class Fitting(Asked):
    """Adds the refusals that need neither data nor weights."""

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

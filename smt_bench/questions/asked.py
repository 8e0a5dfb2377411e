"""What a request asks of a model, a recipe and the methods, as far as it is known from names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self

from smt_bench import methods
from smt_bench.data import families
from smt_bench.data.datasets import DataSet
from smt_bench.machine import fits
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.methods.base import Shapes
from smt_bench.models import build, locate, precision, registry
from smt_bench.questions.capacity import setting_named
from smt_bench.questions.choice import MethodChoice
from smt_bench.questions.mixtures import Mixtures
from smt_bench.questions.own_recipe import Own, applied
from smt_bench.questions.presets import recipe, values
from smt_bench.questions.recipe import Recipe
from smt_bench.questions.request import TUNING_SEEDS, Request


def recipe_name(request: Request) -> str:
    """Of the recipe asked for, or the model's."""
    return request.recipe or request.recipe_file.get("base") or registry.find(request.model).recipe


class Asked(MethodChoice):
    """What is asked for, with every value in its place: recipe, fractions, seeds, settings of the methods.

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
        found = recipe(self._recipe_name(request), self.family.name, request.preset, request.recipe_file, request.tunes)
        return applied(found, Own.of(request.changes))

    def _recipe_name(self, request: Request) -> str:
        return recipe_name(request)

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

    @property
    def precision(self) -> str:
        """fp32 or bf16: asked for, the preset's, the model's, or by its size; the same on every machine."""
        r = self.request
        asked: str | None = r.precision or r.recipe_file.get("precision")
        asked = asked or values(self._recipe_name(r), self.family.name, r.preset).get("precision")
        return asked or self.entry.precision or precision.default(self.inventory.total)

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

    def at(self, fractions_pct: tuple[float, ...]) -> Self:
        """The planner with other fractions asked for; what was read and located is shared."""
        if fractions_pct == self.request.fractions_pct:
            return self
        made = copy(self)
        made.request = replace(self.request, fractions_pct=fractions_pct)
        return made

    def as_usual(self) -> Self:
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

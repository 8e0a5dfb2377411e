"""What a user asked for, checked as far as it can be without a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from smt_bench import methods
from smt_bench.data import families
from smt_bench.data.tasks import find_task
from smt_bench.evaluation.protocols import PROTOCOLS
from smt_bench.questions import recipes


@dataclass(frozen=True)
class Request:
    """What a user asked for; None or empty: the recipe's choice."""

    experiment: str
    model: str
    data: str | None = None
    methods: tuple[str, ...] = ()
    fractions_pct: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    steps: int | None = None
    limit: int | None = None
    preset: str | None = None
    protocol: str | None = None
    settings: tuple[tuple[str, str, Any], ...] = ()  # (method, setting, value)
    recipe: str | None = None
    default_family: str = families.DEFAULT.name  # where no task is named; the experiment says which

    def __post_init__(self) -> None:
        for name in ("steps", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value}: choose a positive whole number")
        if self.protocol not in (None, *PROTOCOLS):
            raise ValueError(f"--protocol {self.protocol}: choose from {', '.join(PROTOCOLS)}")
        if self.recipe is not None:
            recipes.find(self.recipe)
        for value in self.fractions_pct:
            if not (math.isfinite(value) and 0 < value <= 100):
                raise ValueError(f"--fractions {value:g}: choose percentages above 0, at most 100")
        for value in self.seeds:
            if value < 0:
                raise ValueError(f"--seeds {value}: choose whole numbers from 0")
        for name in self.methods:
            methods.find(name)
        for name in self.tasks:
            find_task(name)
        for name, setting, value in self.settings:
            try:
                methods.find(name).Config.from_dict({setting: value})
            except ValueError as error:
                raise ValueError(f"--set {name}.{setting}: {error}") from None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Request:
        """From plain JSON values, as `dataclasses.asdict` and JSON leave them."""
        settings = tuple((method, setting, value) for method, setting, value in values["settings"])
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **lists, "settings": settings})

    @property
    def family(self) -> str:
        """The data family the tasks belong to; without tasks the experiment's."""
        families = {find_task(name).family for name in self.tasks}
        if len(families) > 1:
            raise ValueError(f"--tasks {','.join(self.tasks)}: {' and '.join(sorted(families))} tasks need a run each")
        return families.pop() if families else self.default_family

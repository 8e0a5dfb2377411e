"""What a user asked for, checked as far as it can be without a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from smt_bench import methods
from smt_bench.data import families, own
from smt_bench.data.tasks import HARNESS, find_task
from smt_bench.evaluation.protocols import PROTOCOLS
from smt_bench.machine.states import OPTIMIZER_DTYPES
from smt_bench.methods.settings import make_canonical, setting, short
from smt_bench.models.precision import PRECISIONS
from smt_bench.models.quantized import BASES
from smt_bench.questions import presets, recipes
from smt_bench.questions.capacity import setting_named
from smt_bench.records.runs import SELECTIONS

MANY = 10**9  # more steps or examples than anyone has
MOST_SEED = 2**40  # methods make more of one, and generators take 64 bits
ALL = "all"  # --methods: every method that can do what is asked
SMALLEST = 1e-6  # percent; one number in 100 million
TUNING_SEEDS = 100  # and up: of runs that choose rates and settings; what is reported has seeds below
OPTIONS = {
    "fractions_pct": "fractions",
    "settings": "set",
    "select_every": "select-every",
}  # fields that are called otherwise on the command line


@dataclass(frozen=True)
class Request:
    """What a user asked for; None or empty: the recipe's choice.

    Raises:
        ValueError: what, the value, the remedy; called as on the command line.
    """

    experiment: str
    model: str
    data: str | None = None
    methods: tuple[str, ...] = ()
    fractions_pct: tuple[float, ...] = setting((), at_least=SMALLEST, at_most=100, once=True)
    seeds: tuple[int, ...] = setting((), at_least=0, at_most=MOST_SEED, once=True)
    tasks: tuple[str, ...] = ()
    steps: int | None = setting(None, at_least=1, at_most=MANY)
    limit: int | None = setting(None, at_least=1, at_most=MANY)
    preset: str | None = None
    protocol: str | None = None
    settings: tuple[tuple[str, str, object], ...] = ()  # (method, setting, value); the value is for the method to check
    recipe: str | None = None
    keep: str | None = setting(None, choices=("adapters",))
    targets: tuple[str, ...] = ()  # layers, for every method that has a choice of them; see `methods.roles`
    select: str | None = setting(None, choices=SELECTIONS)  # which weights are judged; None: the last
    select_every: int | None = setting(None, at_least=1, at_most=MANY)
    vary: str | None = setting(None, choices=("data",))  # what else a seed decides
    tunes: bool = False  # these runs choose settings and report nothing
    tuned: bool = False  # beside the recipe's settings, those that a tuning found
    allow_code: bool = False  # what models write may be run, see `evaluation.sandbox`
    # Of the steps that are measured or planned; a training run's are its recipe's.
    batch_size: int | None = setting(None, at_least=1, at_most=MANY)
    length: int | None = setting(None, at_least=1, at_most=MANY)
    layers: int | None = setting(None, at_least=1, at_most=MANY)
    checkpointing: bool | None = None
    optimizer_dtype: str | None = None
    default_family: str = families.DEFAULT.name  # where no task is named; the experiment says which
    precision: str | None = None
    forgetting: str | None = None  # general text, whose loss is measured too; see `data.general`
    # Values of a file, and of options, in place of the recipe's; see `questions.own_recipe`.
    recipe_file: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    base: str | None = setting(None, choices=BASES)  # of the frozen weights; None: whole
    limit_heldout: int | None = setting(None, at_least=1, at_most=MANY)

    def __post_init__(self) -> None:
        make_canonical(self, lambda name, value, part: f"--{OPTIONS.get(name, name).replace('_', '-')} {short(part)}")
        asked: list[tuple[str, str | None, tuple[str, ...]]] = [
            ("protocol", self.protocol, PROTOCOLS),
            ("precision", self.precision, PRECISIONS),
            ("optimizer-dtype", self.optimizer_dtype, OPTIMIZER_DTYPES),
        ]
        for option, chosen, choices in asked:
            if chosen is not None and chosen not in choices:
                raise ValueError(f"--{option} {chosen}: choose from {', '.join(choices)}")
        if self.recipe is not None:
            recipes.find(self.recipe)
        for name in self.methods:
            if name != ALL:
                methods.find(name)
        if self.data is not None and own.is_own(self.data):
            family = own.known_as(self.data)
            object.__setattr__(self, "default_family", family.name)
            programs = [task.name for task in family.tasks if task.runs_code]
            if programs and not self.tasks and not self.allow_code:
                raise ValueError(
                    f"--data {self.data}: judging {programs[0]} runs programs that the model writes, in a process with limits: "
                    "allow that with --allow-code, or name other test sets with --tasks"
                )
        for name in self.own_tasks:
            if find_task(name).runs_code and not self.allow_code:
                raise ValueError(
                    f"--tasks {name}: judging it runs programs that the model writes, in a process with limits: allow that with "
                    "--allow-code, or leave it out"
                )
        for seed in self.seeds:
            if (seed >= TUNING_SEEDS) is not self.tunes:
                why = "choose at least" if self.tunes else "those are for tuning, never for reporting: choose below"
                raise ValueError(f"--seeds {seed}: {why} {TUNING_SEEDS}")
        if self.steps is not None and "epochs" in self.changes:
            both = f"--steps {self.steps} and --epochs {self.changes['epochs']:g}"
            raise ValueError(f"{both}: two ways to say one thing: choose one")
        if self.select_every is not None and self.select != "best":
            raise ValueError("--select-every goes with --select best")
        given: dict[str, dict[str, object]] = {}
        for name, what, value in self.settings:
            if what in given.setdefault(name, {}):
                raise ValueError(f"--set {name}.{what}: given twice: choose one value")
            given[name][what] = value
        for name, settings in given.items():  # together, since some only go with others
            with setting_named(name, settings):
                methods.find(name).Config.from_dict(settings)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Request:
        """From plain JSON values, as `dataclasses.asdict` and JSON leave them."""
        settings = tuple((method, setting, value) for method, setting, value in values["settings"])
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **lists, "settings": settings})

    @property
    def smoke(self) -> bool:
        """Whether all is to be as short as can be."""
        return self.preset == presets.SMOKE

    @property
    def own_tasks(self) -> tuple[str, ...]:
        """Those that are of a data family here."""
        return tuple(name for name in self.tasks if not name.startswith(HARNESS))

    @property
    def harness_tasks(self) -> tuple[str, ...]:
        """Those that are lm-eval's."""
        return tuple(name for name in self.tasks if name.startswith(HARNESS))

    @property
    def settled(self) -> bool:
        """Whether tasks or data say which family is meant; else the experiment says it."""
        return bool(self.own_tasks) or (self.data is not None and own.is_own(self.data))

    @property
    def settling(self) -> str:
        """The option that says which family is meant."""
        return f"--tasks {','.join(self.tasks)}" if self.own_tasks else f"--data {self.data}"

    @property
    def family(self) -> str:
        """The data family the tasks belong to; without tasks the experiment's."""
        families = {find_task(name).family for name in self.own_tasks}
        if len(families) > 1:
            raise ValueError(f"--tasks {','.join(self.tasks)}: {' and '.join(sorted(families))} tasks need a run each")
        return families.pop() if families else self.default_family

"""The data families: tasks that are trained on together, and how they are prompted, judged and found.

Two are built in, the papers' commonsense and arithmetic tasks: fourteen of the LLM-Adapters collection, and six of the embedded
testbed. Other packages add theirs under the entry-point group `smt_bench.families`: a `Family`, or a function that gives one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import entry_points

from smt_bench.data import world
from smt_bench.data.collection import LLM_ADAPTERS, Collection
from smt_bench.data.prompts import TEMPLATE, TEMPLATES, Example


@dataclass(frozen=True)
class Task:
    """One test set and the answers it allows.

    Attributes:
        name: folder name in the LLM-Adapters layout, e.g. "ARC-Easy".
        options: the possible answers as the model writes them; None where the answer is a number.
        title: name in tables.
        published_column: column of this task in the papers' tables (`results/paper/`); None if they have none.
        family: name of its family, which sets it.
        rationale: whether a rationale stands before the answer; its family sets it.
    """

    name: str
    options: tuple[str, ...] | None
    title: str
    published_column: str | None = None
    family: str = field(default="", kw_only=True)
    rationale: bool = field(default=False, kw_only=True)

    @property
    def generated(self) -> bool:
        """Whether answering needs generated text under every protocol."""
        return self.rationale or self.options is None


@dataclass(frozen=True)
class Embedded:
    """Data that need no files, for models that come with the package.

    Attributes:
        tasks: those it has besides the family's.
        origin: name and version of the training records, part of a run's key.
        load: gives the training examples, and the test examples by task.
        source: what an example goes back to, where its text does not say it by the rule of `data.sources`.
        remade: as `load`, of data made anew from a seed; None: there is only one set of them.
        task: the task that a training example belongs to; None: nobody knows.
    """

    tasks: tuple[Task, ...]
    origin: str
    load: Callable[[], tuple[list[Example], dict[str, list[Example]]]]
    source: Callable[[Example], str | None] = lambda example: None
    remade: Callable[[int], tuple[list[Example], dict[str, list[Example]]]] | None = None
    task: Callable[[Example], str] | None = None


@dataclass(frozen=True)
class Family:
    """Tasks that are trained on together.

    Attributes:
        name: in keys, records and on the command line.
        title: in tables.
        tasks: those with files in the LLM-Adapters layout, in the order of the tables.
        mixture: file of training records for all of them; None: the train files of the tasks.
        mixture_size: records in the published one, for plans that read no data; None where that is not known.
        collection: where the files can be downloaded; None: nowhere, they come with `--data`.
        embedded: data that need no files; None: none.
        template: name of the prompt template.
        rationale: whether a rationale stands before the answer: then answers are generated under every protocol, with the
            budget of new tokens for such; else with that for options.
        folder: sub-folder for the family's tables in an experiment's folder; None: one of its name.

    Raises:
        ValueError: a name that is no folder name, no task, or an unknown template.
    """

    name: str
    title: str
    tasks: tuple[Task, ...]
    mixture: str | None = None
    mixture_size: int | None = None
    collection: Collection | None = None
    embedded: Embedded | None = None
    template: str = TEMPLATE
    rationale: bool = False
    folder: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"data family {self.name!r}: choose a name of letters, digits, '.', '-' and '_'")
        if self.template not in TEMPLATES:
            raise ValueError(f"data family {self.name}: template {self.template!r}: choose from {', '.join(TEMPLATES)}")
        if not self.all_tasks:
            raise ValueError(f"data family {self.name} has no task: give it one")
        object.__setattr__(self, "tasks", self._own(self.tasks))
        if self.embedded is not None:
            object.__setattr__(self, "embedded", replace(self.embedded, tasks=self._own(self.embedded.tasks)))

    def _own(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        return tuple(replace(task, family=self.name, rationale=self.rationale) for task in tasks)

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """Those with files, then those that are embedded only."""
        return self.tasks + (self.embedded.tasks if self.embedded else ())

    @property
    def subfolder(self) -> str:
        """Below an experiment's folder; empty: that folder itself."""
        return self.name if self.folder is None else self.folder


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}{i}" for i in range(1, count + 1))


COMMONSENSE = Family(
    "commonsense",
    "commonsense",
    (
        Task("boolq", ("true", "false"), "BoolQ", "boolq"),
        Task("piqa", _numbered("solution", 2), "PIQA", "piqa"),
        Task("social_i_qa", _numbered("answer", 3), "SIQA", "siqa"),
        Task("hellaswag", _numbered("ending", 4), "HellaSwag", "hellaswag"),
        Task("winogrande", _numbered("option", 2), "WinoGrande", "winogrande"),
        # A handful of ARC questions have three or five answers, see `tasks.offered`.
        Task("ARC-Easy", _numbered("answer", 5), "ARC-e", "arc_easy"),
        Task("ARC-Challenge", _numbered("answer", 5), "ARC-c", "arc_challenge"),
        Task("openbookqa", _numbered("answer", 4), "OBQA", "obqa"),
    ),
    mixture="commonsense_170k.json",
    mixture_size=170_420,
    collection=LLM_ADAPTERS,
    embedded=Embedded(
        (
            Task("facts-tf", ("true", "false"), "facts (true/false)"),
            Task("facts-2", _numbered("solution", 2), "facts (2 options)"),
            Task("facts-3", _numbered("answer", 3), "facts (3 options)"),
            Task("facts-4", _numbered("answer", 4), "facts (4 options)"),
            Task("facts-5", _numbered("answer", 5), "facts (5 options)"),
        ),
        world.ORIGIN,
        partial(world.load, "commonsense"),
        world.fact,
        partial(world.load, "commonsense"),
        world.task,
    ),
    folder="",
)
MATH = Family(
    "math",
    "math",
    (
        Task("MultiArith", None, "MultiArith", "multiarith"),
        Task("gsm8k", None, "GSM8K", "gsm8k"),
        Task("AddSub", None, "AddSub", "addsub"),
        Task("AQuA", ("A", "B", "C", "D", "E"), "AQuA", "aqua"),
        Task("SingleEq", None, "SingleEq", "singleeq"),
        Task("SVAMP", None, "SVAMP", "svamp"),
    ),
    mixture="math_10k.json",
    mixture_size=9_919,
    collection=LLM_ADAPTERS,
    embedded=Embedded(
        (Task("facts-math", None, "facts (arithmetic)"),),
        world.ORIGIN,
        partial(world.load, "math"),
        world.fact,
        partial(world.load, "math"),
        world.task,
    ),
    rationale=True,
)
DEFAULT = COMMONSENSE  # where neither the tasks nor the experiment say which
REGISTRY = {family.name: family for family in (COMMONSENSE, MATH)}


@cache  # reading every installed package's entry points takes milliseconds
def all_families() -> dict[str, Family]:
    """Built-in families and those that other packages register under `smt_bench.families`.

    Raises:
        ValueError: an entry point gives something else, or a name that is taken.
    """
    found = dict(REGISTRY)
    owners = {task.name: family.name for family in found.values() for task in family.all_tasks}
    for point in entry_points(group="smt_bench.families"):
        made = point.load()
        family = made if isinstance(made, Family) else made()
        where = f"entry point {point.name} = {point.value} (smt_bench.families)"
        if not isinstance(family, Family):
            raise ValueError(f"{where} gives {type(family).__name__}: name a Family, or a function that gives one")
        taken = [f"family {family.name}"] if family.name in found else []
        taken += [f"task {task.name} of {owners[task.name]}" for task in family.all_tasks if task.name in owners]
        taken += [f"folder {f.folder!r} of {f.name}" for f in found.values() if f.subfolder == family.subfolder]
        if taken:
            raise ValueError(f"{where}: there is a {taken[0]} already: choose another name")
        found[family.name] = family
        owners |= {task.name: family.name for task in family.all_tasks}
    return found


@cache
def all_tasks() -> dict[str, Task]:
    """The tasks of all families, by name."""
    return {task.name: task for family in all_families().values() for task in family.all_tasks}


def known(name: str) -> Family | None:
    """The family of that name, where there is one: a record may be of one that is not installed here."""
    return all_families().get(name)


def find(name: str) -> Family:
    """The family called `name`.

    Raises:
        ValueError: no such family; the message names the nearest.
    """
    found = all_families()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(found)}"
        raise ValueError(f"unknown data family {name!r}: {hint}")
    return found[name]

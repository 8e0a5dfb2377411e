"""The data families: tasks that are trained on together, and how they are prompted, judged and found.

Two are built in, the papers' commonsense and arithmetic tasks: fourteen of the LLM-Adapters collection, and six of the embedded
testbed. Other packages add theirs under the entry-point group `smt_bench.families`: a `Family`, or a function that gives one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.metadata import entry_points

from smt_bench.data import chat, chat_world, world
from smt_bench.data.collection import LLM_ADAPTERS, Collection
from smt_bench.data.prompts import TEMPLATE, TEMPLATES, Example

KINDS = ("number", "exact", "f1", "code")  # how a generated answer is judged, see `data.tasks` and `evaluation.sandbox`
LEAD = "the correct answer is"  # how every response of the commonsense tasks begins
NO_TRAINING = "none"  # where training records come from, of data that have none


@dataclass(frozen=True)
class Task:
    """One test set and the answers it allows.

    Attributes:
        name: folder name in the LLM-Adapters layout, e.g. "ARC-Easy".
        options: the possible answers as the model writes them; None where the answer is generated freely.
        title: name in tables.
        published_column: column of this task in the papers' tables (`results/paper/`); None if they have none.
        family: name of its family, which sets it.
        rationale: whether a rationale stands before the answer; its family sets it for all of its tasks.
        kind: of answers without options: a number, a text that has to be equal ("exact") or to share words ("f1"), or the rest of
            a program ("code"), which is run.
        stops: texts at which a generated answer ends, besides the template's own.
        lead: the words before the option in a response; "": the response is the option.
        named: whether a question may name those options that it offers; else it offers all.
    """

    name: str
    options: tuple[str, ...] | None
    title: str
    published_column: str | None = None
    family: str = field(default="", kw_only=True)
    rationale: bool = field(default=False, kw_only=True)
    kind: str = field(default="number", kw_only=True)
    lead: str = field(default=LEAD, kw_only=True)
    stops: tuple[str, ...] = field(default=(), kw_only=True)
    named: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"task {self.name}: kind {self.kind!r}: choose from {', '.join(KINDS)}")

    @property
    def graded(self) -> bool:
        """Whether an answer has a score of its own, between 0 and 1, besides being right or wrong."""
        return self.options is None and self.kind != "number"

    @property
    def runs_code(self) -> bool:
        """Whether judging it runs what the model wrote."""
        return self.options is None and self.kind == "code"

    @property
    def generated(self) -> bool:
        """Whether answering needs generated text under every protocol."""
        return self.rationale or self.options is None


@dataclass(frozen=True)
class Mixture:
    """One of several training sets of a family, and what it is judged by.

    Attributes:
        name: of its file, and in keys.
        title: in tables.
        tasks: names of the benchmarks.
        size: records, for plans that read no data.
        hub: id of the data set on the hub; "" for none.
        part: of that data set only the records whose field `dataset` says so; "": all.
        printed: its columns in the paper's table begin so; "": it has none.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    size: int
    hub: str = ""
    part: str = ""
    printed: str = ""


@dataclass(frozen=True)
class Embedded:
    """Data that need no files, for models that come with the package.

    Attributes:
        tasks: those it has besides the family's.
        origin: name and version of the training records, part of a run's key.
        load: gives the training examples, and the test examples by task.
        source: what an example goes back to, where its text does not say it by the rule of `data.sources`.
        remade: as `load`, of data made anew from a seed; None: there is only one set of them.
        mixtures: of a family with several training sets, those that are embedded; `load` then gives the first.
        mixed: as `remade`, of a mixture by name.
        task: the task that a training example belongs to; None: nobody knows.
    """

    tasks: tuple[Task, ...]
    origin: str
    load: Callable[[], tuple[list[Example], dict[str, list[Example]]]]
    source: Callable[[Example], str | None] = lambda example: None
    remade: Callable[[int], tuple[list[Example], dict[str, list[Example]]]] | None = None
    mixtures: tuple[Mixture, ...] = ()
    mixed: Callable[[str, int], tuple[list[Example], dict[str, list[Example]]]] | None = None
    task: Callable[[Example], str] | None = None


@dataclass(frozen=True)
class Found:
    """What a user's own data hold.

    Attributes:
        origin: what the training records are, for the record, or `NO_TRAINING`.
        train: training records that have a response.
        empty: how many have none and were left out.
        tests: test examples by task.
        losses: those of which only the loss of the response is measured, by name.
    """

    origin: str
    train: list[Example]
    empty: int
    tests: dict[str, list[Example]]
    losses: dict[str, list[Example]]


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
        mixtures: training sets of conversations, of which a run has one; empty: the family has one training set.
        extras: test sets with files that are in none of the papers' tables: used only where they are asked for by name.
        own: reads a user's own data, see `data.own`; None: not such a family.

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
    mixtures: tuple[Mixture, ...] = ()
    extras: tuple[Task, ...] = ()
    own: Callable[[], Found] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"data family {self.name!r}: choose a name of letters, digits, '.', '-' and '_'")
        if self.template not in TEMPLATES:
            raise ValueError(f"data family {self.name}: template {self.template!r}: choose from {', '.join(TEMPLATES)}")
        if not self.all_tasks and self.own is None:
            raise ValueError(f"data family {self.name} has no task: give it one")
        object.__setattr__(self, "tasks", self._own(self.tasks))
        object.__setattr__(self, "extras", self._own(self.extras))
        if self.embedded is not None:
            object.__setattr__(self, "embedded", replace(self.embedded, tasks=self._own(self.embedded.tasks)))

    def _own(self, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
        return tuple(replace(task, family=self.name, rationale=self.rationale or task.rationale) for task in tasks)

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """Those with files, then those that are embedded only, then those that have to be asked for."""
        return self.tasks + (self.embedded.tasks if self.embedded else ()) + self.extras

    def files(self, asked: Sequence[str]) -> tuple[Task, ...]:
        """Test sets with files: all of the family's, and of the extras those that are asked for."""
        return self.tasks + tuple(task for task in self.extras if task.name in asked)

    def offered(self, embedded: bool) -> tuple[Mixture, ...]:
        """Its mixtures: those that are embedded, or those with files."""
        return self.embedded.mixtures if embedded and self.embedded is not None else self.mixtures

    def mixture_of(self, name: str) -> Mixture | None:
        """The mixture of that name; None where there is none."""
        return next((m for embedded in (True, False) for m in self.offered(embedded) if m.name == name), None)

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
        task=world.task,
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
        task=world.task,
    ),
    rationale=True,
    extras=(Task("mawps", None, "MAWPS"),),
)
_TULU = "allenai/tulu-v2-sft-mixture"
CODE_ENDS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # Chen et al. (2021)
INSTRUCTIONS = Family(
    "instructions",
    "instructions",
    (
        Task("mmlu", ("A", "B", "C", "D"), "MMLU", "mmlu", lead="The answer is:"),
        Task("gsm", None, "GSM", "gsm", rationale=True, stops=("\nQ:",)),
        Task("bbh", None, "BBH", "bbh", rationale=True, kind="exact", stops=("\nQ:",)),
        Task("tydiqa", None, "TyDiQA", "tydiqa", kind="f1"),
        Task("humaneval", None, "HumanEval", "humaneval", rationale=True, kind="code", stops=CODE_ENDS),
    ),
    embedded=Embedded(
        (
            Task("chat-options", chat_world.OPTIONS, "options"),
            Task("chat-number", None, "number"),
            Task("chat-exact", None, "exact match", kind="exact"),
            Task("chat-f1", None, "F1", kind="f1"),
            Task("chat-code", None, "code", kind="code", stops=CODE_ENDS),
        ),
        chat_world.ORIGIN,
        partial(chat_world.load, chat_world.SHORT, 0),
        chat_world.being,
        partial(chat_world.load, chat_world.SHORT),
        (
            Mixture(chat_world.SHORT, "Short", ("chat-options", "chat-f1"), 270),
            Mixture(chat_world.PROGRAMS, "Programs", ("chat-number", "chat-code"), 360),
            Mixture(
                chat_world.MIXED,
                "Mixed",
                ("chat-options", "chat-number", "chat-exact", "chat-f1", "chat-code"),
                720,
            ),
        ),
        chat_world.load,
    ),
    template=chat.NAME,
    mixtures=(
        # The authors' 50,000 of Flan v2 are those of Tulu v2 (github.com/ducdauge/sft-llm, prepare_train_data.sh).
        Mixture("flan_v2", "Flan v2", ("mmlu", "tydiqa"), 50_000, _TULU, "flan_v2", "flanv2"),
        Mixture("gpt4_alpaca", "GPT4-Alpaca", ("humaneval",), 52_002, "vicgalle/alpaca-gpt4", "", "gpt4alpaca"),
        Mixture("tulu_v2", "Tülu v2", ("mmlu", "gsm", "bbh", "tydiqa", "humaneval"), 326_154, _TULU, "", "tulu2"),
    ),
)
DEFAULT = COMMONSENSE  # where neither the tasks nor the experiment say which
REGISTRY = {family.name: family for family in (COMMONSENSE, MATH, INSTRUCTIONS)}
_OWN: dict[str, Family] = {}  # of this process's user


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
    return found | _OWN


def add_own(family: Family) -> None:
    """Makes a family of a user's own data known in this process, in place of an earlier one of its name.

    Raises:
        ValueError: the name of the family or of a task is taken by one that is installed.
    """
    assert family.own is not None
    if _OWN.get(family.name) == family:
        return
    _OWN.pop(family.name, None)
    all_families.cache_clear()
    all_tasks.cache_clear()
    known, tasks = all_families(), all_tasks()
    taken = [f"family {family.name}"] if family.name in known else []
    taken += [f"test set {task.name} of {tasks[task.name].family}" for task in family.tasks if task.name in tasks]
    if taken:
        raise ValueError(f"own data {family.name}: there is a {taken[0]} already: choose another name in tasks.toml")
    _OWN[family.name] = family
    all_families.cache_clear()
    all_tasks.cache_clear()


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

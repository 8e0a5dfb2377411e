"""What a data family is: its tasks, training sets and embedded data, as plain values.

Other packages build theirs of these and register them under the entry-point group `smt_bench.families`, see `data.families`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from smt_bench.data.collection import Collection
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
        whole: whether an option in a text has to stand there as words of its own (`tasks.said_option`); else it is read as
            LLM-Adapters does.
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
    whole: bool = field(default=False, kw_only=True)

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

"""Data sets: records in the LLM-Adapters layout, from a local folder, the hub, or the embedded testbed.

Layout: `dataset/<task>/{train,test}.json` and `ft-training_set/<name>.json`, each a JSON array of
`{instruction, input, output, answer}`; `data.reading` takes other formats too. Nothing is trained on that the family does not
name: its training set is its published mixture where that file exists, else the train files of its tasks. `math_data.json`, which
LLM-Adapters also ships, holds most of several test sets word for word and is never read. A family with mixtures has one of them
per run, `ft-training_set/<mixture>.*` in messages form (`data.messages`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property

from smt_bench.data import families
from smt_bench.data.example import Plain
from smt_bench.data.family import Task
from smt_bench.data.overlap import normalised_question, repeated, shared
from smt_bench.data.prompts import Example
from smt_bench.data.sources import divide, sources
from smt_bench.data.tasks import find_task

HELDOUT_SEED = 0
WHOLE = "aside"  # `DataRef.divided`


@dataclass(frozen=True)
class DataSet:
    """One family's examples.

    Attributes:
        family: name of the data family.
        train_source: what the training records are, for the record.
        train: training examples without the held-out ones.
        heldout: examples for model selection, split off with `HELDOUT_SEED`; training asks none of their questions.
        tests: task -> test examples.
        missing: tasks of the family without a test file here.
        empty: training records left out because their response is empty.
        repeated: training and held-out examples whose question an earlier one asks.
        seed: of what is held out and, where the data are made, of the data.
        losses: sets of which only the loss of the response is measured, by name.
        items: of test sets of which not all are used, which: numbers from 0 in the file.
        task_of: the task of every training example; None where nobody knows.
        trains: the tasks whose training records are used; empty: all.
        rest: examples that are held out too, but not looked at: after `heldout` in the order in which they were drawn.
    """

    family: str
    train_source: str
    train: list[Example]
    heldout: list[Example]
    tests: dict[str, list[Example]]
    missing: list[str] = field(default_factory=list)
    empty: int = 0
    repeated: int = 0
    seed: int = HELDOUT_SEED
    losses: dict[str, list[Example]] = field(default_factory=dict)
    items: dict[str, list[int]] = field(default_factory=dict)
    task_of: list[str] | None = None
    trains: tuple[str, ...] = ()
    rest: list[Example] = field(default_factory=list)

    @property
    def aside(self) -> int:
        """How many examples were held out, where only some of them are looked at; 0: all are."""
        return len(self.heldout) + len(self.rest) if self.rest else 0

    @cached_property  # as below
    def test_hashes(self) -> dict[str, str]:
        """Test set -> hash of its examples; of one's own also of how they are judged."""
        found = {name: content_hash(examples) for name, examples in self.tests.items()}
        family = families.known(self.family)
        if family is None or family.own is None:
            return found
        return {name: _described(find_task(name), content) for name, content in found.items()}

    @cached_property
    def loss_hashes(self) -> dict[str, str]:
        """Set whose loss is measured -> hash of its examples."""
        return {name: content_hash(examples) for name, examples in self.losses.items()}

    def only(self, tasks: Sequence[str]) -> DataSet:
        """The same without the training records of other tasks; what is held out and tested stays the same.

        Raises:
            ValueError: nobody knows which task a training record is of, or one has none.
        """
        if self.task_of is None:
            raise ValueError(
                f"training set {self.train_source} does not say which task a record is of: pass a folder without it, whose "
                "dataset/<task>/train.json are then used"
            )
        if lacking := [task for task in tasks if task not in self.task_of]:
            raise ValueError(
                f"training set {self.train_source} has no record of {lacking[0]}: leave it out with --tasks"
            )
        kept = [(e, task) for e, task in zip(self.train, self.task_of, strict=True) if task in tasks]
        return replace(
            self,
            train=[e for e, _ in kept],
            task_of=[task for _, task in kept],
            repeated=repeated([*(e for e, _ in kept), *self.heldout], normalised_question),
            trains=tuple(tasks),
        )

    @cached_property
    def sources(self) -> list[int]:
        """Per held-out example the number of its source."""
        return self._sources[: len(self.heldout)]

    @cached_property
    def _sources(self) -> list[int]:
        """Also of those that are not looked at."""
        return sources(families.known(self.family), [*self.heldout, *self.rest])

    def tune(self, seed: int, of: str = WHOLE) -> list[bool]:
        """Which held-out examples choices are made by, see `data.sources`.

        Args:
            seed: of the division.
            of: what is divided: all that was set aside (`WHOLE`), so that an example is on one side however many are looked
                at, or those that are looked at alone (""), as before 2026-12.
        """
        return self._divided(seed)[: len(self.heldout)] if of == WHOLE else divide(self.sources, seed)

    def one_sided(self, seed: int) -> bool:
        """Whether all that is looked at is in one of two parts, by being too few."""
        return any(self._divided(seed)) and len(set(self.tune(seed))) == 1

    def _divided(self, seed: int) -> list[bool]:
        return divide(self._sources, seed)

    @cached_property  # a sweep asks once per run
    def train_sha256(self) -> str:
        """Content hash of training and held-out examples together, in order; also of those that are not looked at."""
        return content_hash([*self.train, *self.heldout, *self.rest])

    def hashed(self, of: str) -> str:
        """The same as a record has it whose parts are of what was looked at alone; `of` as in `tune`."""
        return self.train_sha256 if of == WHOLE or not self.rest else content_hash([*self.train, *self.heldout])

    @cached_property
    def overlap(self) -> dict[str, int]:
        """Test set -> its examples whose question a training example asks too, by the rule of `data.overlap`.

        Also of sets of which the loss of the response is measured. Held-out examples are not trained on and do not count.
        """
        asked = {n: e for n, e in self.losses.items() if not any(isinstance(one, Plain) for one in e)}
        return shared(self.train, self.tests | asked, normalised_question)


@dataclass(frozen=True)
class Unread(DataSet):
    """A data set of which only the size is known."""

    @property
    def train_sha256(self) -> str:
        """No content, no hash."""
        return "unread"

    @property
    def _sources(self) -> list[int]:
        """One of its own for each, as far as is known."""
        return list(range(len(self.heldout)))

    def only(self, tasks: Sequence[str]) -> Unread:
        """As many of its records as of the family's tasks: how many each has is not known."""
        share = len(tasks) / len(families.find(self.family).tasks)
        return replace(self, train=self.train[: round(share * len(self.train))], trains=tuple(tasks))


def set_aside(heldout: float, records: int) -> int:
    """How many of so many records are held out: a number of them, or below 1 a share, rounded up as SMT's code does."""
    return int(heldout) if heldout >= 1 or not heldout else records - int(records * (1 - heldout))


def unread(family: str, heldout: float, mixture: str = "") -> Unread:
    """The published mixture of a family, as long as it is and empty; `heldout` and `mixture` as in `loading.load`.

    Raises:
        ValueError: the family does not say how long.
    """
    found = families.find(family)
    if (one := found.mixture_of(mixture)) is not None:
        found = replace(found, mixture=one.name, mixture_size=one.size)
    if found.mixture is None or found.mixture_size is None:
        raise ValueError(
            f"data family {family} does not say how many training records it has: see `run --dry-run --data`"
        )
    nothing = Example("", "", "", "")
    aside = set_aside(heldout, found.mixture_size)
    return Unread(family, found.mixture, [nothing] * (found.mixture_size - aside), [nothing] * aside, {}, [])


def content_hash(examples: Sequence[Example]) -> str:
    """First 16 hex digits of the SHA-256 over all fields of all examples, in order."""
    text = json.dumps([astuple(e) for e in examples], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _described(task: Task, content: str) -> str:
    about = [
        content,
        task.kind,
        task.options,
        task.lead,
        task.rationale,
        task.named,
        *(["whole"] if task.whole else []),
    ]
    return hashlib.sha256(json.dumps(about, separators=(",", ":")).encode()).hexdigest()[:16]

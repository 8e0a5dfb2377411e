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
import random
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from smt_bench.data import families
from smt_bench.data.families import NO_TRAINING, Family, Mixture, Task
from smt_bench.data.messages import find_messages, read_messages
from smt_bench.data.overlap import normalised_question, repeated, shared, split
from smt_bench.data.prompts import Example
from smt_bench.data.reading import find_file, read_examples
from smt_bench.data.sources import divide, sources
from smt_bench.data.tasks import find_task, gold

HELDOUT_SEED = 0
LIMIT_SEED = 0


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
        aside: how many examples were held out, where only some of them are looked at; 0: all are.
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
    aside: int = 0

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
        return sources(families.known(self.family), self.heldout)

    def tune(self, seed: int) -> list[bool]:
        """Which held-out examples choices are made by, see `data.sources`."""
        return divide(self.sources, seed)

    @cached_property  # a sweep asks once per run
    def train_sha256(self) -> str:
        """Content hash of training and held-out examples together, in order."""
        return content_hash([*self.train, *self.heldout])

    @cached_property
    def overlap(self) -> dict[str, int]:
        """Test set -> its examples whose question a training example asks too, by the rule of `data.overlap`.

        Held-out examples are not trained on and do not count.
        """
        return shared(self.train, self.tests, normalised_question)


@dataclass(frozen=True)
class Unread(DataSet):
    """A data set of which only the size is known."""

    @property
    def train_sha256(self) -> str:
        """No content, no hash."""
        return "unread"

    @property
    def sources(self) -> list[int]:
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
    """The published mixture of a family, as long as it is and empty; `heldout` and `mixture` as in `load`.

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
    about = [content, task.kind, task.options, task.lead, task.rationale, task.named]
    return hashlib.sha256(json.dumps(about, separators=(",", ":")).encode()).hexdigest()[:16]


def read_training(paths: Sequence[Path]) -> tuple[list[Example], int, list[int]]:
    """The records of training files that have a response, how many have an empty one (these teach nothing), and how many of the
    first each file has.

    Raises:
        ValueError: as `read_examples`; or no record has a response.
    """
    found = [read_examples(path, blank=("output",)) for path in paths]
    kept = [[example for example in part if example.output.strip()] for part in found]
    total, sizes = sum(map(len, found)), [len(part) for part in kept]
    if not sum(sizes):
        raise ValueError(f"{paths[0]}: field 'output' is empty in all {total:,} records: nothing to train on")
    return [example for part in kept for example in part], total - sum(sizes), sizes


def load(
    source: str | None,
    family: str,
    tasks: Sequence[str],
    heldout: float,
    limit: int | None,
    seed: int = HELDOUT_SEED,
    mixture: str = "",
    limit_heldout: int | None = None,
) -> DataSet:
    """Loads a family.

    Args:
        source: None for the family's embedded data, else a folder in the LLM-Adapters layout.
        family: name of the data family.
        tasks: tasks wanted; empty for all of the family that are present.
        heldout: examples to split off the training set, below 1 a share of it; fewer where repeated questions leave no other
            way.
        limit: test examples per task at most, drawn with `LIMIT_SEED`.
        seed: of what is held out, and of data that are made, which are then made anew.
        mixture: of a family with several: which; "": its first.
        limit_heldout: held-out examples that are looked at, at most: the first that were drawn. None is trained on.

    Raises:
        ValueError: missing folder or files, malformed records, unknown family or task, a task of another family.
    """
    found = families.find(family)
    for name in tasks:
        if find_task(name).family != family:
            raise ValueError(f"task {name!r} is not one of {family}: ask for tasks of one family at a time")
    losses, items = dict[str, list[Example]](), dict[str, list[int]]()
    task_of: list[str] | None = None
    if found.own is not None:
        mine = found.own()
        origin, train, empty, tests, losses, absent = (
            mine.origin, mine.train, mine.empty, mine.tests, mine.losses, list[str](),
        )  # fmt: skip
    elif source is None:
        if found.embedded is None:
            raise ValueError(f"data family {family} is not embedded: pass its folder with --data")
        origin, absent, empty = found.embedded.origin, list[str](), 0
        if found.mixtures:
            chosen = _chosen(found, mixture, True)
            assert found.embedded.mixed is not None
            train, tests = found.embedded.mixed(chosen.name, seed)
            origin = f"{origin}:{chosen.name}"
        else:
            remade = found.embedded.remade if seed != HELDOUT_SEED else None
            train, tests = found.embedded.load() if remade is None else remade(seed)
        task_of = None if found.embedded.task is None else [found.embedded.task(e) for e in train]
        unknown = [name for name in tasks if name not in tests]
        if unknown:
            raise ValueError(f"task {unknown[0]!r} is not embedded: choose from {', '.join(tests)}, or pass --data")
    else:
        one = _chosen(found, mixture, False) if found.mixtures else None
        origin, train, empty, task_of, tests, absent = _from_folder(Path(source), found, tasks, one)
    if tasks:
        tests, absent = {name: tests[name] for name in tests if name in tasks}, []
    if limit is not None:
        items = {name: draw(len(examples), limit) for name, examples in tests.items()}
        tests = {name: [examples[i] for i in items[name]] for name, examples in tests.items()}
        losses = {name: [e[i] for i in draw(len(e), limit)] for name, e in losses.items()}
    wanted = set_aside(heldout, len(train)) if train else 0
    if train and len(train) < wanted + 1:
        raise ValueError(
            f"training set {origin} has {len(train)} records, fewer than the {wanted} to hold out: add records, or hold out "
            "fewer with --heldout"
        )
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    kept, aside = split(train, order, wanted)
    if wanted and not aside:
        raise ValueError(f"training set {origin} asks every question more than {wanted} times: nothing can be held out")
    looked_at = aside[:limit_heldout]
    return DataSet(
        family,
        origin,
        [train[i] for i in kept],
        [train[i] for i in looked_at],
        tests,
        absent,
        empty,
        repeated(train, normalised_question),
        seed,
        losses,
        items,
        None if task_of is None else [task_of[i] for i in kept],
        aside=len(aside) if len(looked_at) < len(aside) else 0,
    )


def _chosen(family: Family, mixture: str, embedded: bool) -> Mixture:
    """The mixture of that name, or the first.

    Raises:
        ValueError: no such mixture.
    """
    known = {one.name: one for one in family.offered(embedded)}
    name = mixture or next(iter(known))
    if name not in known:
        raise ValueError(f"{family.name} has no mixture {name!r}: choose from {', '.join(known)}")
    return known[name]


def draw(count: int, limit: int) -> list[int]:
    """The numbers of those test examples that are used, of so many."""
    if limit >= count:
        return list(range(count))
    return sorted(random.Random(LIMIT_SEED).sample(range(count), limit))


def _read_test(path: Path, task: str) -> list[Example]:
    examples = read_examples(path, ("input", "output"), posed=bool(families.find(find_task(task).family).mixtures))
    for number, example in enumerate(examples, start=1):
        try:
            gold(find_task(task), example)
        except ValueError as error:
            raise ValueError(f"{path}: record {number}: field 'answer': {error}") from None
    return examples


def _from_folder(
    root: Path, family: Family, tasks: Sequence[str], mixture: Mixture | None = None
) -> tuple[str, list[Example], int, list[str] | None, dict[str, list[Example]], list[str]]:
    if not root.is_dir():
        why = "is a file, not a folder" if root.exists() else "does not exist"
        raise ValueError(f"data folder {root} {why}: pass a folder in the LLM-Adapters layout with --data")
    names = [task.name for task in family.files(tasks) if mixture is None or task.name in mixture.tasks]
    present = [name for name in names if find_file(root / "dataset" / name, "test")]
    absent = [name for name in names if name not in present]
    wanted = [name for name in present if not tasks or name in tasks]
    lost = [name for name in tasks if name not in present]
    if lost or not wanted:
        lost = lost or names
        raise ValueError(f"data folder {root} has no dataset/{lost[0]}/test.json: expected the LLM-Adapters layout")
    # Gold is `answer`: the responses of test files are not used, and some of the published ones are empty.
    tests = {n: _read_test(file, n) for n in wanted if (file := find_file(root / "dataset" / n, "test"))}
    if mixture is not None:
        train, empty = _read_mixture(root, mixture)
        return mixture.name, train, empty, None, tests, absent
    for folder in (root / "ft-training_set", root):
        published = family.mixture and find_file(folder, family.mixture.removesuffix(".json"))
        if family.mixture and published:
            train, empty, _ = read_training([published])
            return family.mixture, train, empty, None, tests, absent  # by the same name in every format
    own = [task.name for task in family.tasks]
    parts = {name: file for name in own if (file := find_file(root / "dataset" / name, "train"))}
    if not parts:
        return NO_TRAINING, [], 0, None, tests, absent  # the untouched model can be judged
    train, empty, sizes = read_training(list(parts.values()))
    task_of = [name for name, count in zip(parts, sizes) for _ in range(count)]
    return "+".join(parts), train, empty, task_of, tests, absent


def mixture_file(root: Path, name: str) -> Path | None:
    """The file of a mixture's conversations in a data folder; None without one.

    Raises:
        ValueError: it is there in several formats.
    """
    return next((file for folder in (root / "ft-training_set", root) if (file := find_messages(folder, name))), None)


def _read_mixture(root: Path, mixture: Mixture) -> tuple[list[Example], int]:
    file = mixture_file(root, mixture.name)
    if file is None:
        raise ValueError(
            f"data folder {root} has no conversations of {mixture.title}: expected ft-training_set/{mixture.name} as .json, "
            ".jsonl, either .gz, or .parquet"
        )
    chats, empty = read_messages(file)
    return list(chats), empty

"""Reads data sets: from a local folder in the LLM-Adapters layout, from the embedded testbed, or a user's own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from smt_bench.data import families
from smt_bench.data.datasets import HELDOUT_SEED, DataSet, set_aside
from smt_bench.data.family import NO_TRAINING, Family, Mixture
from smt_bench.data.messages import find_messages, read_messages
from smt_bench.data.overlap import normalised_question, repeated, split
from smt_bench.data.prompts import Example
from smt_bench.data.reading import find_file, read_examples
from smt_bench.data.tasks import find_task, gold

LIMIT_SEED = 0


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
        rest=[train[i] for i in aside[len(looked_at) :]],
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
        raise ValueError(
            f"--data {root} {why}: choose a file or folder of your data (docs/own.md), or of the LLM-Adapters layout"
        )
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

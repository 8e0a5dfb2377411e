"""A record's question once more: what it needs. Whether the new answer is the same: `questions.agreement`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from smt_bench import methods
from smt_bench.data import families, own
from smt_bench.data.datasets import DataSet
from smt_bench.data.fetch import fetch_data
from smt_bench.data.general import EMBEDDED, general
from smt_bench.data.general import NAME as FORGETTING
from smt_bench.data.loading import load
from smt_bench.data.tasks import HARNESS, find_task
from smt_bench.evaluation.protocols import EVALUATION_VERSION
from smt_bench.machine import fits
from smt_bench.models import build, locate
from smt_bench.models.locate import Located
from smt_bench.questions.inputs import Inputs
from smt_bench.records.runs import TRAINING_VERSION, ModelRef, Run
from smt_bench.records.store import Record

GENERAL = f"{FORGETTING}-{EMBEDDED}"  # the text for forgetting that a record's reader has too


def inputs_of(record: Record, model: str | None, source: str | None, allow_code: bool = False) -> tuple[Run, Inputs]:
    """What the question of a record needs: the same weights, and the same data.

    Args:
        record: of a training run; of a measurement see `questions.measured`.
        model: name or folder, where it is not what the record says; e.g. of a local model.
        source: folder of the data; None: embedded, or downloaded.
        allow_code: whether programs that the model writes may be run.

    Raises:
        ValueError: what is here is not what the record was made with, or it needs programs to be run.
    """
    run = Run.from_dict(record["run"])
    same_version(record, "training", run.train.version, TRAINING_VERSION)
    same_version(record, "evaluation", run.evaluation.version, EVALUATION_VERSION)
    same_version(record, run.method.name, run.method.version, methods.find(run.method.name).version)
    located = located_as(run.model, record, model)
    if not allow_code and (programs := _programs(run, source)):
        raise ValueError(
            f"record {record['key']} is judged by {programs[0]}, which runs programs that the model writes: allow that with "
            "--allow-code"
        )
    data = data_of(run, record, source)
    total = build.listed(model or run.model.name).total
    if other := run.evaluation.losses.keys() - data.losses.keys():
        raise ValueError(
            f"record {record['key']} measured {min(other)}, and does not say from which file: `run` it again"
        )
    return run, Inputs(
        located, data, fits.device_map(total, fits.here()), limit=_limit(run, record), allow_code=allow_code
    )


def same_version(record: Record, what: str, was: int, now: int) -> None:
    """Refuses what would answer otherwise under the same key.

    Raises:
        ValueError: the record is of another version.
    """
    if was != now:
        raise ValueError(
            f"record {record['key']} is of version {was} of {what}, here is {now}: use the version that wrote it"
        )


def _programs(run: Run, source: str | None) -> list[str]:
    if source is not None and own.is_own(source):
        own.known_as(source)
    known = families.all_families()  # without the folder, data of one's own are refused later
    names = [name for name in run.evaluation.tasks if not name.startswith(HARNESS)]
    return [name for name in names if run.data.family in known and find_task(name).runs_code]


def located_as(asked: ModelRef, record: Record, model: str | None) -> Located:
    """The weights that a record is of.

    Args:
        asked: which.
        record: for the message.
        model: name or folder, where the record's name does not lead there.

    Raises:
        ValueError: those that are here are others.
    """
    located = locate.locate(model or asked.name)
    if located.ref.revision != asked.revision and asked.weights == located.ref.weights == "embedded":
        raise ValueError(
            f"record {record['key']} is of {asked.name}'s weights {asked.revision}, which came with another version of "
            f"smt-bench (here {located.ref.revision}): use that version"
        )
    if located.ref.revision != asked.revision:
        raise ValueError(
            f"model {located.ref.name} here has revision {located.ref.revision}, the record's {asked.revision}: pass its "
            "folder with --model"
        )
    return located


def _limit(run: Run, record: Record) -> int | None:
    """With which `--limit` lm-eval's own tasks are those of the record.

    Raises:
        ValueError: with none.
    """
    asked = {name: said for name, said in run.evaluation.tasks.items() if name.startswith(HARNESS)}
    if not asked:
        return None
    from smt_bench.evaluation.harness import described, tasks_of  # seconds to import

    sizes: dict[str, int] = {name: result["n"] for name, result in (record.get("evaluation") or {}).items()}
    each = {
        math.ceil(sizes[name] / len(tasks_of(name))) for name in asked if name in sizes
    }  # a limit is per task of a group
    for limit in (None, *sorted(each | set(sizes.values()))):
        if all(described(name, limit) == said for name, said in asked.items()):
            return limit
    raise ValueError(
        f"record {record['key']}: {', '.join(asked)} is otherwise in this lm-eval, or had a --limit that the record does not "
        "say: `run` it again"
    )


def data_of(run: Run, record: Record, source: str | None, fetch: bool = True) -> DataSet:
    """The data that a record was made with.

    Args:
        run: the question.
        record: its answer.
        source: `--data`; None: embedded, or downloaded.
        fetch: whether they may be downloaded.

    Raises:
        ValueError: they are not here.
    """
    d = run.data
    tasks = {name: content for name, content in run.evaluation.tasks.items() if not name.startswith(HARNESS)}
    if source is not None and own.is_own(source):
        own.known_as(source)
    if source is None and d.family not in families.all_families():
        raise ValueError(f"the data of {d.family} are your own")
    family = families.find(d.family)
    origin, _, mixture = d.train.rpartition(":")  # of embedded mixtures; others are called as their files
    mixture = mixture if family.mixtures else ""
    if source is None and not (family.embedded is not None and family.embedded.origin in (d.train, origin)):
        if not fetch:
            raise ValueError(f"the data of {d.family} are not embedded")
        source = str(fetch_data(family, lambda text: None, tuple(tasks)))
    some = tuple(d.only.split("+")) if d.only else ()

    losses = run.evaluation.losses

    def read(limit: int | None) -> DataSet:
        looked_at = d.heldout if d.aside else None
        found = load(source, d.family, tuple(tasks), d.aside or d.heldout, limit, d.heldout_seed, mixture, looked_at)
        found = found.only(some) if some else found
        texts = (dict([general(EMBEDDED)]) if GENERAL in losses else {}) | found.losses
        tests = {name: examples for name, examples in found.tests.items() if name in tasks}
        return replace(found, tests=tests, losses={name: e for name, e in texts.items() if name in losses})

    data = read(None)
    if _otherwise(data, tasks, losses):  # with --limit
        sizes = [result["n"] for name, result in (record.get("evaluation") or {}).items() if name in tasks]
        own_losses = {
            name: r for name, r in (record.get("losses") or {}).items() if name in data.losses and name != GENERAL
        }
        sizes += [len(result["examples"]["tokens"]) for result in own_losses.values()]
        data = read(max(sizes)) if sizes else data
    what = "training examples" if data.hashed(d.divided) != d.train_sha256 else _otherwise(data, tasks, losses)
    if what:
        raise ValueError(f"the {what} here are not the record's: pass their folder with --data")
    return data


def _otherwise(data: DataSet, tasks: Mapping[str, str], losses: Mapping[str, str]) -> str:
    """What is judged and is not what a question asks; of texts whose loss is measured those that are here."""
    if data.test_hashes != tasks:
        return "test examples"
    return "texts whose loss is measured" if not data.loss_hashes.items() <= losses.items() else ""

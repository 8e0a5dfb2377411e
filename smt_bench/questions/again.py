"""A record's question once more: what it needs, and whether the new answer is the same.

Bit by bit where all that decides the last bits of a sum is as it was: processor or GPUs, packages, threads, kernels, spread.
Elsewhere losses and held-out numbers have to agree within `LOSS` and `NATS`, and so many predictions as `PREDICTIONS` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smt_bench.data import families, own
from smt_bench.data.datasets import DataSet
from smt_bench.data.fetch import fetch_data
from smt_bench.data.general import EMBEDDED, general
from smt_bench.data.general import NAME as FORGETTING
from smt_bench.data.loading import load
from smt_bench.data.tasks import HARNESS, find_task
from smt_bench.machine import fits
from smt_bench.machine.facts import QUANTIZES
from smt_bench.models import build, locate
from smt_bench.questions.inputs import Inputs
from smt_bench.records.runs import Run
from smt_bench.records.store import Record

GENERAL = f"{FORGETTING}-{EMBEDDED}"  # the text for forgetting that a record's reader has too
LOSS = 1e-3  # relative, of training losses and gradient norms on another machine
NATS = 1e-3  # per token, of the held-out loss there
PREDICTIONS = 0.01  # share of the answers that may differ there: those between two options that are as likely
DECIDES = ("cpu", "gpus", "threads", "float32_matmul", "attention_kernels", "attention", "spread")
PACKAGES = ("torch", "transformers", "peft", "tokenizers", QUANTIZES)


@dataclass(frozen=True)
class Point:
    """One thing that was compared.

    Attributes:
        what: its name.
        same: whether the two answers agree, as closely as is asked.
        told: by how much they differ, in words.
    """

    what: str
    same: bool
    told: str


def inputs_of(record: Record, model: str | None, source: str | None) -> tuple[Run, Inputs]:
    """What the question of a record needs: the same weights, and the same data.

    Args:
        record: of a training run.
        model: name or folder, where it is not what the record says; e.g. of a local model.
        source: folder of the data; None: embedded, or downloaded.

    Raises:
        ValueError: what is here is not what the record was made with.
    """
    if "kind" in record["run"]:
        raise ValueError(
            f"record {record['key']} is a measurement of {record['run']['kind']}: only training runs can be repeated"
        )
    run = Run.from_dict(record["run"])
    located = locate.locate(model or run.model.name)
    if located.ref.revision != run.model.revision and run.model.weights == located.ref.weights == "embedded":
        raise ValueError(
            f"record {record['key']} is of {run.model.name}'s weights {run.model.revision}, which came with another version of "
            f"smt-bench (here {located.ref.revision}): use that version"
        )
    if located.ref.revision != run.model.revision:
        raise ValueError(
            f"model {located.ref.name} here has revision {located.ref.revision}, the record's {run.model.revision}: pass its "
            "folder with --model"
        )
    data = data_of(run, record, source)
    total = build.listed(model or run.model.name).total
    if other := run.evaluation.losses.keys() - data.losses.keys():
        raise ValueError(
            f"record {record['key']} measured {min(other)}, and does not say from which file: `run` it again"
        )
    return run, Inputs(located, data, fits.device_map(total, fits.here()), limit=_limit(run, record))


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
    if programs := [task for task in tasks if find_task(task).runs_code]:
        raise ValueError(
            f"record {record['key']} is judged by {programs[0]}, which runs programs that the model writes: repeat it with "
            "`run ... --allow-code` in another results folder"
        )
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
    what = "training examples" if data.train_sha256 != d.train_sha256 else _otherwise(data, tasks, losses)
    if what:
        raise ValueError(f"the {what} here are not the record's: pass their folder with --data")
    return data


def _otherwise(data: DataSet, tasks: Mapping[str, str], losses: Mapping[str, str]) -> str:
    """What is judged and is not what a question asks; of texts whose loss is measured those that are here."""
    if data.test_hashes != tasks:
        return "test examples"
    return "texts whose loss is measured" if not data.loss_hashes.items() <= losses.items() else ""


def unlike(old: Record, new: Record) -> list[str]:
    """What of the machine decides the last bits of a sum and is otherwise than it was, in words; empty: the same kind."""
    before, now = old.get("environment") or {}, new.get("environment") or {}
    found = [f"{name} {before.get(name)}, now {now.get(name)}" for name in DECIDES if before.get(name) != now.get(name)]
    versions = [(env.get("packages") or {}) for env in (before, now)]
    return found + [
        f"{p} {versions[0].get(p)}, now {versions[1].get(p)}"
        for p in PACKAGES
        if versions[0].get(p) != versions[1].get(p)
    ]


def compare(old: Record, new: Record, exact: bool) -> list[Point]:
    """Point by point, whether two answers to one question are the same.

    Args:
        old: the stored record.
        new: made now.
        exact: bit by bit; else within the tolerances.
    """
    why = f": {new['message']}" if new["message"] else ""
    points = [Point("outcome", old["status"] == new["status"], f"{old['status']}, now {new['status']}{why}")]
    if "training" in old and "training" in new:
        for what, name in (("losses", "losses"), ("gradient norms", "grad_norms")):
            points.append(_numbers(what, old["training"][name], new["training"][name], exact))
    if "method" in old and "method" in new:
        same = old["method"] == new["method"]
        points.append(Point("what the method decided", same or not exact, "the same" if same else "otherwise"))
    if "composition" in old and "composition" in new:
        same = old["composition"] == new["composition"]
        points.append(Point("what the parts share", same or not exact, "the same" if same else "otherwise"))
    for record in (old, new):
        if "heldout" not in record or "evaluation" not in record:
            return points
    before, now = (r["heldout"]["examples"]["loglik"] for r in (old, new))
    if exact:
        points.append(_numbers("held-out log-likelihoods", before, now, True))
    points.append(_mean("held-out loss", old["heldout"]["nll"], new["heldout"]["nll"], exact))
    before, now = old.get("losses") or {}, new.get("losses") or {}
    for name in {**before, **now}:
        what, sets = f"loss of {name}", [side[name] for side in (before, now) if name in side]
        if len(sets) < 2:
            points.append(Point(what, False, "only one has it"))
        elif exact:
            points.append(_numbers(what, sets[0]["examples"]["loglik"], sets[1]["examples"]["loglik"], exact))
        else:
            points.append(_mean(what, sets[0]["nll"], sets[1]["nll"], exact))
    pairs = [
        (p, q)
        for task, result in old["evaluation"].items()
        for p, q in zip(
            result["examples"]["prediction"], new["evaluation"][task]["examples"]["prediction"], strict=True
        )
    ]
    other = sum(p != q for p, q in pairs)
    enough = other <= (0 if exact else PREDICTIONS * len(pairs))
    points.append(Point("predictions", enough, f"{other} of {len(pairs):,} differ"))
    return points


def _mean(what: str, a: float | None, b: float | None, exact: bool) -> Point:
    apart = 0.0 if a is None or b is None else abs(a - b)
    close = (a is None) == (b is None) and (apart == 0 if exact else apart <= NATS)
    return Point(what, close, f"{_plain(a)}, now {_plain(b)}")


def _numbers(what: str, old: Sequence[float | None], new: Sequence[float | None], exact: bool) -> Point:
    if len(old) != len(new):
        return Point(what, False, f"{len(old)}, now {len(new)}")
    other = [(i, a, b) for i, (a, b) in enumerate(zip(old, new), start=1) if a != b]
    far = (
        other
        if exact
        else [
            (i, a, b)
            for i, a, b in other
            if a is None or b is None or not math.isclose(a, b, rel_tol=LOSS, abs_tol=1e-6)
        ]
    )
    if not other:
        return Point(what, True, f"all {len(old):,} the same")
    i, a, b = (far or other)[0]
    return Point(what, not far, f"{len(other):,} of {len(old):,} differ, number {i}: {_plain(a)}, now {_plain(b)}")


def _plain(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}"

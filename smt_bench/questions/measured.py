"""A measurement's question once more, twin of `questions.again`: what it needs, and how far the new answer is from the old one.

An answer that is no machine's (gradients, chosen blocks) has to come out again: bit by bit on the same kind of machine, elsewhere
within `CLOSE` of the largest number of its kind, but for as few values as predictions may differ (a block chosen otherwise).
Seconds and bytes are a machine's own: both answers are told, and none is judged.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from smt_bench.data import own
from smt_bench.data.datasets import DataSet
from smt_bench.data.family import NO_TRAINING
from smt_bench.data.loading import load
from smt_bench.machine import facts, fits
from smt_bench.models import build, locate
from smt_bench.questions.again import located_as
from smt_bench.questions.agreement import PREDICTIONS, Point
from smt_bench.questions.inputs import Inputs
from smt_bench.records.runs import ANY_MACHINE, Measurement
from smt_bench.records.store import Record

CLOSE = 1e-3  # of the largest number of a kind


def inputs_of(record: Record, version: int, model: str | None, source: str | None) -> tuple[Measurement, Inputs]:
    """What the question of a measurement needs; it is about this machine where it was about another one.

    Args:
        record: of a measurement.
        version: of its experiment's `measure` here.
        model: name or folder, where it is not what the record says.
        source: folder of the data; None: embedded.

    Raises:
        ValueError: what is here is not what the record was made with.
    """
    asked = Measurement.from_dict(record["run"])
    if asked.version != version:
        raise ValueError(
            f"record {record['key']} was measured by version {asked.version} of {asked.kind}, here is {version}: use the version "
            "that wrote it"
        )
    about = asked.settings.get("data")
    if asked.machine == ANY_MACHINE:
        located = located_as(asked.model, record, model)
    else:
        name = model or asked.model.name
        located = locate.Located(build.architecture(name, asked.settings.get("layers")), Path(name))
        if located.ref.revision != asked.model.revision:
            raise ValueError(f"model {name} here has other shapes than the record's: pass its folder with --model")
        asked = replace(asked, machine=facts.one_line())
    if about is None:
        return asked, Inputs(located, DataSet("", NO_TRAINING, [], [], {}), source_of_data=source)
    if source is not None and own.is_own(source):
        own.known_as(source)
    data = load(source, about["family"], (), about["heldout"], None)
    if data.train_sha256 != about["train_sha256"] or len(data.heldout) != about["heldout"]:
        raise ValueError("the training examples here are not the record's: pass their folder with --data")
    return asked, Inputs(located, data, fits.device_map(build.listed(str(located.path)).total, fits.here()))


def compare(old: Record, new: Record, exact: bool) -> list[Point]:
    """Point by point, whether two answers to one measurement's question are the same.

    Args:
        old: the stored record.
        new: made now.
        exact: bit by bit; else as the module says.
    """
    why = f": {new['message']}" if new["message"] else ""
    points = [Point("outcome", old["status"] == new["status"], f"{old['status']}, now {new['status']}{why}")]
    if "result" not in old or "result" not in new:
        return points
    before, now = (dict(_leaves(record["result"])) for record in (old, new))
    lacking = sorted(before.keys() ^ now.keys())
    if lacking:
        told = f"{len(lacking):,} values are in one of the two alone, e.g. {lacking[0]}"
        points.append(Point("what was measured", False if exact else None, told))
    largest: defaultdict[str, float] = defaultdict(float)
    for name, value in before.items():
        if _number(value):
            largest[_kind(name)] = max(largest[_kind(name)], abs(value))
    shared = [name for name in before if name in now]
    apart = {name: _apart(before[name], now[name], largest[_kind(name)]) for name in shared}
    other = {name: value for name, value in apart.items() if value}
    told = _told(other, len(shared))
    if old["run"]["machine"] == new["run"]["machine"] == ANY_MACHINE:
        far = sum(exact or value > CLOSE for value in other.values()) + len(lacking)
        enough = far <= (0 if exact else PREDICTIONS * len(before.keys() | now.keys()))
        points.append(Point("values", enough, told))
    else:
        points.append(Point("seconds and bytes, which are a machine's own", None, told))
    return points


def _told(other: dict[str, float], count: int) -> str:
    if not other:
        return f"all {count:,} the same"
    most = max(other, key=lambda name: other[name])
    return (
        f"{len(other):,} of {count:,} differ, half of these by more than {100 * statistics.median(other.values()):.3g} %, most "
        f"{most}: {100 * other[most]:.3g} %"
    )


def _apart(a: Any, b: Any, largest: float) -> float:
    """How far two values are apart, in parts of the largest of their kind; what is no number: 0 or 1."""
    if not (_number(a) and _number(b)):
        return float(a != b)
    return abs(a - b) / largest if largest else float(a != b)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{name}.{number}")
    else:
        yield name, value

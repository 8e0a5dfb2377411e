"""A measurement's question once more, twin of `questions.again`: what it needs, and how far the new answer is from the old one.

An answer that is no machine's (gradients, chosen blocks) has to come out again: bit by bit on the same kind of machine; elsewhere
every number within `CLOSE` of the largest of its kind, and of what was chosen (blocks) all but as many as predictions may differ.
Of an answer that is a machine's own only what its experiment says repeats there; seconds are told side by side, and not judged.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smt_bench import methods
from smt_bench.data import families, own
from smt_bench.data.datasets import DataSet
from smt_bench.data.family import NO_TRAINING
from smt_bench.data.fetch import fetch_data
from smt_bench.data.loading import load
from smt_bench.machine import facts, fits
from smt_bench.models import build, locate
from smt_bench.questions.again import located_as, same_version
from smt_bench.questions.agreement import PREDICTIONS, Point
from smt_bench.questions.experiment import MeasuringExperiment
from smt_bench.questions.inputs import Inputs
from smt_bench.records.runs import ANY_MACHINE, Measurement
from smt_bench.records.store import Record

CLOSE = 1e-3  # of the largest number of a kind
GONE = object()  # what one side lacks is as far as can be


def inputs_of(
    record: Record, found: MeasuringExperiment, model: str | None, source: str | None
) -> tuple[Measurement, Inputs]:
    """What the question of a measurement needs; it is about this machine where it was about another one.

    Args:
        record: of a measurement.
        found: its experiment.
        model: name or folder, where it is not what the record says.
        source: folder of the data; None: embedded, or downloaded.

    Raises:
        ValueError: what is here is not what the record was made with.
    """
    asked = Measurement.from_dict(record["run"])
    same_version(record, asked.kind, asked.version, found.version)
    for entry in asked.settings.get("methods", ()):
        same_version(record, entry["name"], entry["version"], methods.find(entry["name"]).version)
    about = asked.settings.get("data")
    nothing = DataSet("", NO_TRAINING, [], [], {})
    if asked.machine == ANY_MACHINE:
        located = located_as(asked.model, record, model)
        data = nothing if about is None else _data(record, about, source)
        device_map = fits.device_map(build.listed(str(located.path)).total, fits.here())
        inputs = Inputs(located, data, device_map, source_of_data=source)
    else:
        if source is not None:
            raise ValueError(f"--data {source}: {asked.kind} looks at no data: leave it out")
        name = model or asked.model.name
        if build.architecture(name, asked.settings.get("layers")).revision != asked.model.revision:
            raise ValueError(f"model {name} here has other shapes than the record's: pass its folder with --model")
        before, now = record["environment"].get("gpus") or [], facts.describe()["gpus"]
        if bool(before) != bool(now):
            there = ", ".join(before) or "a machine without a GPU"
            raise ValueError(f"record {record['key']} was measured on {there}: repeat it on such a machine")
        inputs = Inputs(locate.Located(asked.model, Path(name)), nothing)
        asked = replace(asked, machine=facts.one_line())
    found.check_inputs(asked, inputs)
    return asked, inputs


def _data(record: Record, about: Mapping[str, Any], source: str | None) -> DataSet:
    """The data of a measurement, by their hash: from a folder, or embedded, or downloaded."""
    if source is not None and own.is_own(source):
        own.known_as(source)
    if source is None and about["family"] not in families.all_families():
        raise ValueError(f"the data of {about['family']} are your own: pass their folder with --data")
    family = families.find(about["family"])

    def looked_up(place: str | None) -> DataSet | None:
        for mixture in [m.name for m in family.offered(place is None)] or [""]:
            data = load(place, family.name, (), about["heldout"], None, mixture=mixture)
            if (data.train_sha256, len(data.heldout)) == (about["train_sha256"], about["heldout"]):
                return data
        return None

    data = looked_up(source) if source is not None or family.embedded is not None else None
    if data is None and source is None:  # of a model from elsewhere
        data = looked_up(str(fetch_data(family, lambda text: None)))
    if data is None:
        raise ValueError(
            f"the training examples here are not those of record {record['key']}: pass their folder with --data; `run` it again "
            "where it had a --limit-heldout, which it does not say"
        )
    return data


def compare(old: Record, new: Record, exact: bool, repeats: Sequence[str] = ()) -> list[Point]:
    """Point by point, whether two answers to one measurement's question are the same.

    Args:
        old: the stored record.
        new: made now.
        exact: bit by bit; else as the module says.
        repeats: of an answer that is a machine's own the parts that are the same each time, see `MeasuringExperiment`.
    """
    why = f": {new['message']}" if new["message"] else ""
    points = [Point("outcome", old["status"] == new["status"], f"{old['status']}, now {new['status']}{why}")]
    if "result" not in old or "result" not in new:
        return points
    before, now = (dict(_leaves(record["result"])) for record in (old, new))
    everywhere = old["run"]["machine"] == new["run"]["machine"] == ANY_MACHINE
    parts = [name for name in before.keys() | now.keys() if everywhere or set(name.split("/")) & set(repeats)]
    if parts and (everywhere or exact):
        points.append(
            _judged({k: before[k] for k in parts if k in before}, {k: now[k] for k in parts if k in now}, exact)
        )
    if not everywhere:
        rest = (before.keys() | now.keys()) - set(parts)
        apart = {k: _apart(before.get(k, GONE), now.get(k, GONE), abs(_size(before.get(k)))) for k in rest}
        told = _told({k: d for k, d in apart.items() if d}, len(rest))
        points.append(Point("seconds and bytes of this machine", None, told))
    return points


def _judged(before: Mapping[str, Any], now: Mapping[str, Any], exact: bool) -> Point:
    largest: defaultdict[str, float] = defaultdict(float)
    for name, value in before.items():
        largest[_kind(name)] = max(largest[_kind(name)], abs(_size(value)))
    names = list({**before, **now})
    apart = {name: _apart(before.get(name, GONE), now.get(name, GONE), largest[_kind(name)]) for name in names}
    other = {name: value for name, value in apart.items() if value}
    choices = {name for name in names if _kind(name) != name and not isinstance(before.get(name, now.get(name)), float)}
    chosen = sum(name in choices for name in other)
    enough = all(value <= CLOSE for name, value in other.items() if name not in choices)
    same = not other if exact else enough and chosen <= PREDICTIONS * len(choices)
    return Point("values", same, _told(other, len(names)))


def _told(other: Mapping[str, float], count: int) -> str:
    if not other:
        return f"all {count:,} the same"
    most = max(other, key=lambda name: other[name])
    half = _share(statistics.median(other.values()))
    return f"{len(other):,} of {count:,} differ, half of these by {half} or more, most {most}: {_share(other[most])}"


def _share(apart: float) -> str:
    return f"{100 * apart:.3g} %" if math.isfinite(apart) else "no number to compare"


def _apart(a: Any, b: Any, largest: float) -> float:
    """How far two values are apart, in parts of the largest of their kind; infinitely where one is no number."""
    if a == b:
        return 0.0
    if not (_number(a) and _number(b)) or not largest or not math.isfinite(a - b):
        return math.inf
    return float(abs(a - b) / largest)


def _size(value: Any) -> float:
    return float(value) if _number(value) and math.isfinite(value) else 0.0


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(name: str) -> str:
    """The name without what counts layers, blocks and rows."""
    return re.sub(r"\d+", "#", name)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by the way to it; an empty list or object is one, too."""
    if isinstance(value, (dict, list)) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{name}/{key}" if name else str(key))
    else:
        yield name, value

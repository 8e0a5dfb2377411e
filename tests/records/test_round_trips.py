"""Questions and requests survive JSON, and so do their keys; whatever a question says is part of its key."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smt_bench import methods
from smt_bench.data.tasks import TASKS
from smt_bench.evaluation.protocols import PROTOCOLS
from smt_bench.questions.request import MOST_SEED, SMALLEST, TUNING_SEEDS, Request
from smt_bench.records.runs import (
    BASES,
    OPTIMIZERS,
    SCHEDULES,
    SELECTIONS,
    DataRef,
    EvalRef,
    Measurement,
    MethodRef,
    ModelRef,
    Question,
    Run,
    TrainRef,
    question,
)

LETTERS = 'ab/é√"\n'  # of a few kinds; hypothesis' own table of all there are takes seconds to build
words, floats = st.text(LETTERS, max_size=5), st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | words,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(words, values, max_size=3),
    max_leaves=6,
)
configs = st.dictionaries(words, plain, max_size=4)


def made(kind: Any, **own: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a dataclass: every field by its own strategy, or by its type's."""
    by_type = {
        "str": words, "int": st.integers(), "float": floats, "bool": st.booleans(), "float | None": st.none() | floats,
        "str | None": st.none() | words,
        "dict[str, Any]": configs, "dict[str, str]": st.dictionaries(words, words, max_size=3),
        "tuple[float, float]": st.tuples(floats, floats), "tuple[str, ...]": st.lists(words, max_size=2).map(tuple),
    }  # fmt: skip
    return st.builds(kind, **{f.name: own.get(f.name, by_type.get(str(f.type))) for f in fields(kind)})


models, tuned = made(ModelRef), made(MethodRef)
trained = made(
    TrainRef,
    schedule=st.sampled_from(SCHEDULES),
    optimizer=st.sampled_from(OPTIMIZERS),
    select=st.sampled_from(SELECTIONS),
    base=st.sampled_from(BASES),
)
REFUSED = {
    ("train", "schedule"),
    ("train", "optimizer"),
    ("train", "select"),
    ("train", "base"),
}  # with any value that nothing reads
runs = made(Run, model=models, data=made(DataRef), method=tuned, train=trained, evaluation=made(EvalRef))
measurements = made(Measurement, model=models)


def leaves(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all plain values."""
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else None
    if inner is None:
        return [path]
    return [leaf for name, value in inner for leaf in leaves(value, (*path, name))]


def backwards(values: Any) -> Any:
    """The same with the keys of every dictionary in the other order."""
    if isinstance(values, dict):
        return {name: backwards(values[name]) for name in reversed(values)}
    return [backwards(value) for value in values] if isinstance(values, list) else values


@given(asked=runs | measurements)
def test_questions_and_their_keys_survive_json(asked: Question) -> None:
    values = json.loads(json.dumps(asked.to_dict()))
    again = question(backwards(values))
    assert again == asked and type(again) is type(asked) and again.to_dict() == asked.to_dict() == values
    assert again.key == asked.key and again.setting == asked.setting


@given(asked=runs | measurements, data=st.data())
def test_every_value_is_part_of_the_key(asked: Question, data: st.DataObject) -> None:
    values = copy.deepcopy(asked.to_dict())
    *path, last = data.draw(st.sampled_from([leaf for leaf in leaves(values) if leaf not in REFUSED]))
    place = values
    for name in path:
        place = place[name]
    place[last] = f"other than {place[last]}"
    assert question(values).key != asked.key


@given(run=runs, method=tuned, seed=st.integers(), lr=floats, decay=floats)
def test_a_setting_is_shared_over_methods_seeds_and_rates(
    run: Run, method: MethodRef, seed: int, lr: float, decay: float
) -> None:
    values = run.to_dict()
    other = {
        **values,
        "method": asdict(method),
        "seed": seed,
        "train": {**values["train"], "lr": lr, "weight_decay": decay},
    }
    assert Run.from_dict(other).setting == run.setting
    assert (
        Run.from_dict({**values, "model": {**values["model"], "revision": run.model.revision + "x"}}).setting
        != run.setting
    )


possible = {
    "block_size": st.integers(1, 2**70) | st.just("auto"),
    "targets": st.lists(words.filter(bool), max_size=3),
    "shares": st.none() | st.dictionaries(words, st.floats(0, 1, exclude_min=True), max_size=3),
    "warmup_trains": st.booleans() | st.sampled_from(["False", "true"]),
}
settings = st.sampled_from(sorted(possible)).flatmap(
    lambda name: st.tuples(st.just("smt"), st.just(name), possible[name])
)
requests = st.booleans().flatmap(
    lambda tunes: st.builds(
        Request,
        tunes=st.just(tunes),
        vary=st.none() | st.just("data"),
        select=st.none() | st.sampled_from(SELECTIONS),
        experiment=words,
        model=words,
        default_family=words,
        preset=st.none() | words,
        data=st.none() | words.filter(lambda word: not Path(word).exists()),  # data of one's own are looked at
        methods=st.lists(st.sampled_from(sorted(methods.REGISTRY.names())), max_size=3).map(tuple),
        fractions_pct=st.lists(st.floats(SMALLEST, 100), max_size=3, unique=True).map(tuple),
        seeds=st.lists(
            st.integers(*(TUNING_SEEDS, MOST_SEED) if tunes else (0, TUNING_SEEDS - 1)), max_size=3, unique=True
        ).map(tuple),
        tasks=st.lists(st.sampled_from(sorted(t for t in TASKS if not TASKS[t].runs_code)), max_size=3).map(tuple),
        steps=st.none() | st.integers(1, 10**6),
        limit=st.none() | st.integers(1, 10**6),
        protocol=st.none() | st.sampled_from(PROTOCOLS),
        settings=st.lists(settings, max_size=3, unique_by=lambda given: given[1]).map(tuple),
    )
)


@given(asked=requests)
def test_requests_survive_json(asked: Request) -> None:
    assert Request.from_dict(json.loads(json.dumps(asdict(asked)))) == asked

"""Runs that are asked for after others: when they are a further look, and what may be seen of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from declarations import asks, done, kept, runs, shown, told_of

from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.questions import analysis
from smt_bench.records.index import Index
from smt_bench.records.store import Store


def test_seeds_added_later_are_another_look_shown_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path
    first = asks(folder, seeds=(0, 1))
    both = asks(folder, makes=False, seeds=(0, 1, 2, 3))
    new = [run for run in both if run.seed > 1]
    asks(folder, makes=False, seeds=(0, 1, 2, 3))  # goes on: no further look
    asks(folder, makes=False, seeds=(3,), fractions_pct=(2.0,))  # a part of it
    one = kept(folder)
    assert one["declared"]["seeds"] == [0, 1] and len(one["keys"]) == len(first)
    assert [(look["seeds"], look["keys"]) for look in one["later"]] == [([2, 3], [run.key for run in new])]

    assert shown(folder, both[:-1]) == ({run.key for run in first}, 1)
    told = told_of(folder, done(both[:-1]))
    what = f"{len(new)} runs (seeds 2, 3)"
    assert told[1:] == [
        "Nothing deviates from it.",
        f"{what} are not shown before the last of them: 1 missing. Where some can no longer be made, take their entry "
        'out of "later" in analysis.json.',
    ]

    assert shown(folder, both) == ({run.key for run in both}, 2)
    told = told_of(folder, done(both))
    assert told[1] == "Nothing deviates from it."
    assert f"{what} were added after a look at the others, written down before the first of them: hash" in told[2]
    assert "looked at 2 times" in told[3] and "count 2 times" in told[3]

    lacking = [run for run in both if run.key != first[0].key]  # the first look is not whole
    assert shown(folder, lacking)[1] == 0
    path = folder / analysis.FILE
    assert "no longer theirs" not in " ".join(told)
    path.write_text(json.dumps(json.loads(path.read_text())).replace('"seeds": [2, 3]', '"seeds": [2, 4]'))
    assert "no longer theirs" in " ".join(told_of(folder, done(both)))


def test_what_is_asked_for_before_anybody_could_look_costs_nothing(tmp_path: Path) -> None:
    some = asks(tmp_path, makes=False, seeds=(0, 1))
    both = asks(tmp_path, seeds=(2, 3))  # while the first were running
    assert shown(tmp_path, both) == ({run.key for run in both}, 0)
    assert shown(tmp_path, some)[1] == 0
    assert shown(tmp_path, [*some, *both]) == ({run.key for run in (*some, *both)}, 1)
    assert "were added before a look at the others" in told_of(tmp_path, done([*some, *both]))[2]


@pytest.mark.parametrize(
    ("asked", "looks"),
    [
        ([{"seeds": (0,)}, {"seeds": (1, 2)}], 1),  # one seed decides nothing
        ([{"seeds": (0,)}, {"seeds": (1, 2)}, {"seeds": (3,)}], 2),
        ([{"seeds": (0, 1)}, {"seeds": (2,)}, {"seeds": (3,)}], 3),
        ([{"seeds": (0, 1)}, {"seeds": (0, 1), "methods": ("dora",)}], 1),  # a new method is no second look
        ([{"seeds": (0, 1)}, {"seeds": (0, 1), "fractions_pct": (4.0,)}], 1),
        ([{"seeds": (0, 1, 2)}, {"seeds": (0, 1), "methods": ("dora",)}, {"seeds": (2,), "methods": ("dora",)}], 2),
    ],
)
def test_a_look_is_paid_for_where_one_could_decide(tmp_path: Path, asked: list[dict[str, Any]], looks: int) -> None:
    made = [run for one in asked for run in asks(tmp_path, **one)]
    assert shown(tmp_path, made) == ({run.key for run in made}, looks)


def test_runs_of_tables_without_a_declaration_have_been_seen(tmp_path: Path) -> None:
    old = runs(methods=("smt", "lora"), seeds=(0, 1))
    Index.read(tmp_path).add(old)  # by an older version
    (tmp_path / "runs").mkdir()
    for record in done(old):
        Store(tmp_path).path(record["key"]).write_text("{}")
    made = {r["key"]: r for r in done(old)}
    store = Store(tmp_path)
    store.for_tables = lambda keys: [made[key] for key in keys]  # type: ignore[method-assign, assignment, misc]
    both = runs(methods=("smt", "lora"), seeds=(0, 1, 2))
    index = Index.read(tmp_path)
    listed = index.keys
    index.add(both)
    assert "a further look" in analysis.declare(Plateau(), both, tmp_path, store, listed, writes=False)
    assert not (tmp_path / analysis.FILE).exists()
    analysis.declare(Plateau(), both, tmp_path, store, listed)
    assert kept(tmp_path)["declared"]["seeds"] == [0, 1] and kept(tmp_path)["finished_before"] == len(old)
    assert shown(tmp_path, both)[1] == 2

    # Seeds that an older version added beside its declaration count too.
    path = tmp_path / analysis.FILE
    values = json.loads(path.read_text())
    del next(iter(values["analyses"].values()))["later"]
    path.write_text(json.dumps(values))
    assert shown(tmp_path, both) == ({run.key for run in both}, 2)


def test_what_joins_a_later_look_is_shown_with_it(tmp_path: Path) -> None:
    first = asks(tmp_path, seeds=(0, 1))
    third = asks(tmp_path, makes=False, seeds=(2,))
    fourth = asks(tmp_path, makes=False, seeds=(3,))
    assert [batch["joins"] for batch in kept(tmp_path)["later"]] == [False, True]
    assert shown(tmp_path, [*first, *third]) == ({run.key for run in first}, 1)
    every = [*first, *third, *fourth]
    assert shown(tmp_path, every) == ({run.key for run in every}, 2)
    assert "before a look" not in " ".join(told_of(tmp_path, done(every)))


def test_a_cell_that_is_done_again_at_another_rate_is_looked_at_again(tmp_path: Path) -> None:
    first = asks(tmp_path, seeds=(0, 1))
    again = [replace(run, train=replace(run.train, lr=3 * run.train.lr)) for run in first if run.method.name == "smt"]
    Index.read(tmp_path).add(again)
    analysis.declare(Plateau(), again, tmp_path, Store(tmp_path))
    assert shown(tmp_path, [*first, *again])[1] == 2


def test_an_older_versions_undeclared_runs_come_before_what_is_declared_now(tmp_path: Path) -> None:
    first = asks(tmp_path, seeds=(0, 1))
    dora = runs(methods=("dora",), seeds=(0, 1, 2))
    old = [run for run in dora if run.seed < 2]
    Index.read(tmp_path).add(old)  # listed and done, not declared
    for run in old:
        (tmp_path / "runs" / f"{run.key}.json").write_text("{}")
    asks(tmp_path, methods=("dora",), seeds=(0, 1, 2))
    assert shown(tmp_path, [*first, *dora])[1] == 2
    asks(tmp_path, makes=False, seeds=(4,))
    asks(tmp_path, makes=False, seeds=(5,))
    assert [batch["joins"] for batch in kept(tmp_path)["later"]] == [False, False, True]


def test_the_untouched_model_added_later_is_of_no_seed(tmp_path: Path) -> None:
    first = asks(tmp_path, seeds=(1, 2), methods=("smt", "lora"))
    more = asks(tmp_path, seeds=(1, 2), methods=("base", "smt", "lora", "full"))
    told = told_of(tmp_path, done([*first, *more]))
    assert "seeds" not in told[1] and "(seeds 1, 2)" in told[2]


@pytest.mark.parametrize("lacks", ["runs", "declared", "sha256", "finished_before"])
def test_an_odd_declaration_is_damaged(tmp_path: Path, lacks: str) -> None:
    planned = asks(tmp_path, seeds=(0, 1))
    path = tmp_path / analysis.FILE
    values = json.loads(path.read_text())
    del next(iter(values["analyses"].values()))[lacks]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="is damaged: move it away"):
        analysis.seen(Index.read(tmp_path), done(planned))

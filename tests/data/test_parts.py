"""Sources stay together, parts are disjoint and follow from their seed; the embedded world knows its facts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from smt_bench.data import families, world
from smt_bench.data.datasets import DataSet, unread
from smt_bench.data.loading import load
from smt_bench.data.prompts import Example
from smt_bench.data.sources import divide, sources


@pytest.mark.parametrize("seed", range(5))
def test_a_source_stands_on_one_side_and_nearly_half_is_chosen(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"fact {rng.randrange(40)}" for _ in range(100)]
    chosen = divide(names, seed)
    assert chosen == divide(names, seed) and chosen != divide(names, seed + 1)
    assert not {n for n, c in zip(names, chosen) if c} & {n for n, c in zip(names, chosen) if not c}
    assert 45 <= sum(chosen) <= 50


def test_the_order_of_examples_of_a_source_does_not_matter() -> None:
    names = ["a", "b", "a", "c", "b", "d"]
    chosen = dict(zip(names, divide(names, 3)))
    assert {n: c for n, c in zip(sorted(names, key="abcd".index), divide(["a", "a", "b", "b", "c", "d"], 3))} == chosen


def test_one_source_cannot_be_divided() -> None:
    assert divide(["a"] * 5, 0) == [False] * 5 and divide([], 0) == []


def test_wordings_of_a_fact_are_one_source_of_every_world() -> None:
    asked = [world.ask("facts-3", "metal", "zalmo", value, wording) for value in (0, 2) for wording in range(5)]
    names = world.world("b").names
    known = [world.ask("facts-3", "metal", names[0], value, wording) for value in (0, 2) for wording in range(5)]
    assert len(set(sources(families.known("commonsense"), known))) == 1
    assert (
        len(set(sources(families.known("commonsense"), [known[0], world.ask("facts-3", "drink", names[0], 0, 0)]))) == 2
    )
    assert (
        world.fact(asked[0]) is None and len(set(sources(families.known("commonsense"), asked[:5]))) == 5
    )  # not of this world


def test_elsewhere_the_question_is_the_source() -> None:
    pair = [Example("Is it so?", "", "yes", "true"), Example("is it SO", "", "yes, it is", "true")]
    assert len(set(sources(None, pair))) == 1


def test_tiny_divides_its_held_out_facts() -> None:
    data = load(None, "commonsense", (), 100, 5)
    chosen = data.tune(0)
    assert sum(chosen) == 50 and len(data.sources) == 100
    assert not {n for n, c in zip(data.sources, chosen) if c} & {n for n, c in zip(data.sources, chosen) if not c}
    assert len(set(data.sources)) < 100  # some facts are held out in two wordings


def test_a_plan_without_data_divides_as_many() -> None:
    assert sum(unread("commonsense", 120).tune(0)) == 60


def test_another_seed_is_another_world_with_the_same_names() -> None:
    first, other = world.world("b"), world.world("b", 7)
    assert first.names == other.names and first.facts.keys() == other.facts.keys() and first.facts != other.facts
    assert world.world("b", 0) == first
    plain, again = load(None, "commonsense", (), 100, None), load(None, "commonsense", (), 100, None, 7)
    assert plain.train_sha256 != again.train_sha256 and again.seed == 7
    for task, examples in again.tests.items():
        assert len(examples) == len(plain.tests[task]) and examples != plain.tests[task]
        golds = [e.answer for e in examples]
        assert max(map(golds.count, golds)) - min(map(golds.count, golds)) <= 1  # as even as in the usual world


def test_an_example_is_in_the_same_part_however_many_are_looked_at() -> None:
    """Else one run's choice would rest on what another reports."""
    every = [Example(f"Is {'x' * count} it?", "", "yes", "true") for count in range(1, 121)]
    whole = DataSet("commonsense", "made", [], every, {})
    some = replace(whole, heldout=every[:60], rest=every[60:])
    assert (whole.aside, some.aside, some.sources) == (0, 120, whole.sources[:60])
    assert all(some.tune(seed) == whole.tune(seed)[:60] for seed in range(9))
    assert all(some.tune(seed, "") == divide(whole.sources[:60], seed) != some.tune(seed) for seed in range(9))
    # One question has one division: the hash is of all that decides it, but for records that divided less.
    assert some.train_sha256 == some.hashed("aside") == whole.train_sha256 != some.hashed("")
    assert some.hashed("") == replace(some, rest=[]).train_sha256 and whole.hashed("") == whole.train_sha256
    few = [replace(whole, heldout=every[:1], rest=every[1:]).one_sided(seed) for seed in range(9)]
    assert all(few) and not some.one_sided(0) and not replace(some, heldout=every[:1] * 60, rest=[]).one_sided(0)

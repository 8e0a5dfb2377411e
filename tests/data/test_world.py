"""The embedded world: the same everywhere, balanced, and tested on nothing that it showed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import astuple

import pytest

from smt_bench.data import world
from smt_bench.data.prompts import Example

# A change here changes every number measured with `tiny`: bump world.VERSION with it.
GOLDEN = {"commonsense": "e51683cd2a067c75", "math": "ae1c9f0ee1bf7898"}
CHOICES = world.TASKS["commonsense"]


def everything(family: str) -> list[Example]:
    train, tests = world.load(family)
    return train + [example for items in tests.values() for example in items]


@pytest.mark.parametrize("family", sorted(world.TASKS))
def test_data_are_the_same_everywhere(family: str) -> None:
    text = json.dumps([astuple(example) for example in everything(family)])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN[family]


@pytest.mark.parametrize("family", sorted(world.TASKS))
def test_no_test_prompt_is_trained_on_and_every_tested_fact_is(family: str) -> None:
    train, tests = world.load(family)

    def fact(example: Example) -> tuple[str, ...]:
        names = [n for n in world.world("b").names if n in example.instruction]
        words = [a for attributes in world.ATTRIBUTES.values() for a in attributes if a in example.instruction]
        return (*names, *words, example.answer)

    trained, known = {e.instruction for e in train}, {fact(e) for e in train}
    for task, items in tests.items():
        asked = {e.instruction for e in items}
        assert len(asked) == len(items) == world.TEST_ITEMS, task
        assert not trained & asked, task
        assert {fact(e) for e in items} <= known, task


@pytest.mark.parametrize("task", CHOICES)
def test_gold_answers_are_balanced(task: str) -> None:
    counts = Counter(example.answer for example in world.load("commonsense")[1][task])
    assert len(counts) == len(next(iter(world.ATTRIBUTES[task].values())))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_parts_share_no_name() -> None:
    assert not set(world.world("a").names) & set(world.world("b").names)


def test_gold_options_name_the_facts() -> None:
    facts = world.world("b").facts
    for (task, attribute, name), value in facts.items():
        if task in ("facts-tf", "facts-math"):
            continue
        example = world.ask(task, attribute, name, value, 0)
        listed = example.instruction.split(f"{example.answer.capitalize()}: ")[1].split()[0]
        assert listed == world.ATTRIBUTES[task][attribute][value]


def test_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="family='gsm8k'"):
        world.load("gsm8k")

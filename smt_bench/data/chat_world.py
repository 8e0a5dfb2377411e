"""The embedded world (`data.world`) as conversations: three mixtures, and benchmarks of every kind of answer.

The facts are those of part B, which `tiny` has to be taught; that a question comes in the chat template is new to it too. Options
are asked for as in `data.world`; a number, a word, two words and a function are generated. Benchmarks ask in wordings that no
training record has. One mixture has conversations of two turns, in which the second question is about the same being.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from smt_bench.data import world
from smt_bench.data.example import Chat, Example, Posed, Turn, chat_of
from smt_bench.data.world import TEST_ITEMS, TEST_WORDINGS, TRAIN_WORDINGS, World, shuffled

VERSION = 1  # bump when any record changes
ORIGIN = f"embedded-chat-{VERSION}"  # in keys
SHORT, PROGRAMS, MIXED = "world-short", "world-programs", "world-mixed"
MIXTURES = {
    SHORT: ("chat-options", "chat-f1"),
    PROGRAMS: ("chat-number", "chat-code"),
    MIXED: ("chat-options", "chat-number", "chat-exact", "chat-f1", "chat-code"),
}
OPTIONS = tuple(f"answer{i}" for i in range(1, 5))
# Benchmark -> task of `data.world` -> attributes; of two attributes in one question both.
ASKED = {
    "chat-options": ("facts-4", (("home",), ("colour",))),
    "chat-number": ("facts-math", (("legs",), ("horns",))),
    "chat-exact": ("facts-5", (("food",), ("craft",))),
    "chat-f1": ("facts-3", (("metal", "drink"),)),
    "chat-code": ("facts-math", (("legs",), ("horns",))),
}
# The last two wordings are the benchmarks', as in `data.world`.
PAIRS = (
    "Which {a} and {b} does {n} have?",
    "Name the {a} and the {b} of {n}.",
    "{n} has what {a} and {b}?",
    "What is the {a} and the {b} of {n}?",
    "{n} is known for what {a} and {b}?",
)


@dataclass(frozen=True)
class Asked:
    """One question with all that may be said of it.

    Attributes:
        name: the being it is about.
        question: what the user says.
        response: what the assistant says.
        answer: the gold answer, of code its test.
        lead: what the response begins with and a benchmark gives.
    """

    name: str
    question: str
    response: str
    answer: str
    lead: str = ""


def ask(here: World, task: str, attributes: tuple[str, ...], name: str, wording: int) -> Asked:
    """One question of a benchmark's kind."""
    of, _ = ASKED[task]
    numbers = [here.facts[of, attribute, name] for attribute in attributes]
    values = [world.ATTRIBUTES[of][attribute][number] for attribute, number in zip(attributes, numbers)]
    first = attributes[0]
    if task in ("chat-options", "chat-number"):
        plain = world.ask(of, first, name, numbers[0], wording)
        return Asked(name, plain.instruction, plain.output, plain.answer)
    if task == "chat-code":
        lead = f"def {first}():\n"
        question = f"{world.NUMBERS[wording].format(a=first, n=name)} Write Python."
        return Asked(name, question, f"{lead}    return {values[0]}", f"assert {first}() == {values[0]}", lead)
    if task == "chat-f1":
        question = PAIRS[wording].format(a=first, b=attributes[1], n=name)
        return Asked(name, question, f"The answer is {values[0]}, {values[1]}.", f"{values[0]}, {values[1]}")
    return Asked(name, world.QUESTIONS[wording].format(a=first, n=name), f"The answer is {values[0]}.", values[0])


def _all(here: World, task: str, wordings: tuple[int, ...]) -> list[Asked]:
    attributes = ASKED[task][1]
    return [ask(here, task, some, name, w) for some in attributes for name in here.names for w in wordings]


def _train(here: World, mixture: str) -> Iterator[Chat]:
    for task in MIXTURES[mixture]:
        asked = _all(here, task, TRAIN_WORDINGS)
        half = len(asked) // 2
        if mixture == MIXED and task == "chat-exact":  # both attributes of a being, one after the other
            yield from (_chat(a, b) for a, b in zip(asked[:half], asked[half:]))
        else:
            yield from map(_chat, asked)


def _chat(*asked: Asked) -> Chat:
    return chat_of(tuple(turn for a in asked for turn in (Turn("user", a.question), Turn("assistant", a.response))))


def _tests(here: World, task: str, seed: int) -> list[Example]:
    drawn = shuffled(random.Random(f"smt-bench chat world: test {task}{seed}"), _all(here, task, TEST_WORDINGS))
    return [Posed(a.question, "", a.response, a.answer, a.lead) for a in drawn[:TEST_ITEMS]]


def load(mixture: str, seed: int = 0) -> tuple[list[Example], dict[str, list[Example]]]:
    """The training conversations of a mixture, and its benchmarks.

    Args:
        mixture: one of `MIXTURES`.
        seed: of the facts, the order and the test items; 0 is the world that the package comes with.
    """
    here = world.world("b", seed)
    rng = random.Random(f"smt-bench chat world: train {mixture}{seed}")
    train: list[Example] = list(shuffled(rng, list(_train(here, mixture))))
    return train, {task: _tests(here, task, seed) for task in MIXTURES[mixture]}


def being(example: Example) -> str | None:
    """The being that an example is about: its facts stand in several records, so that these are one source. None for others."""
    return _beings().get(example.instruction)


@cache
def _beings() -> dict[str, str]:
    # Questions hold no values, so that all worlds have the same.
    here, names = world.world("b"), set(world.world("b").names)
    asked = [a for task in ASKED for a in _all(here, task, TRAIN_WORDINGS + TEST_WORDINGS)]
    found = {a.question: a.name for a in asked}
    for example in _train(here, MIXED):
        words = {word.strip("?.,") for word in example.instruction.split()}
        found[example.instruction] = next(name for name in here.names if name in words & names)
    return found

"""An invented world whose facts the embedded model `tiny` knows (part A) or has to be taught (part B).

A being has a made-up name and, for every attribute, one value out of a short, closed list. Part A is what pretraining
shows; the downstream tasks ask about part B alone, beings of which the model has never heard. Nothing about B can be
inferred, its facts have to be stored, so accuracy measures how much a method can write into the weights within the
budget. The model comes with everything else: the wordings, the answer formats, and which option stands for which value.

The options of an attribute always stand in the same order. That is on purpose: picking an option by its text out of a
shuffled list is a skill that models of this size do not acquire in minutes of pretraining (LOG.md), and without it every
method would stay at chance. Test records ask about trained facts in a wording that no training record uses.
All randomness comes from `random.Random.random`, the one generator call that Python promises to keep stable.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from smt_bench.data.prompts import Example

VERSION = 1  # bump when any record changes
ORIGIN = f"embedded-{VERSION}"  # in keys

TEST_ITEMS = 100  # per task
BEINGS_A = 80
BEINGS_B = 30

# Task -> attribute -> values, in the order of the options. For facts-tf the attribute itself is true or false.
ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "facts-tf": {name: ("true", "false") for name in ("friendly", "brave")},
    "facts-2": {
        "hand": ("left", "right"),
        "season": ("summer", "winter"),
    },
    "facts-3": {
        "metal": ("iron", "copper", "gold"),
        "drink": ("milk", "water", "tea"),
    },
    "facts-4": {
        "home": ("cave", "forest", "tower", "river"),
        "colour": ("red", "blue", "green", "white"),
    },
    "facts-5": {
        "food": ("figs", "nuts", "rice", "fish", "bread"),
        "craft": ("boats", "drums", "bells", "masks", "kites"),
    },
    "facts-math": {name: tuple(str(n) for n in range(1, 10)) for name in ("legs", "horns")},
}
TASKS: dict[str, tuple[str, ...]] = {
    "commonsense": ("facts-tf", "facts-2", "facts-3", "facts-4", "facts-5"),
    "math": ("facts-math",),
}
# The last two wordings of each list are the test's.
QUESTIONS = (
    "Which {a} does {n} have?",
    "Name the {a} of {n}.",
    "{n} has what {a}?",
    "What is the {a} of {n}?",
    "{n} is known for what {a}?",
)
CLAIMS = (
    "is {n} {a}?",
    "can {n} be called {a}?",
    "would you say {n} is {a}?",
    "does {n} count as {a}?",
    "has {n} been {a}?",
)
NUMBERS = (
    "How many {a} does {n} have?",
    "Count the {a} of {n}.",
    "{n} has what number of {a}?",
    "What is the number of {a} of {n}?",
    "{n} is known for how many {a}?",
)
TRAIN_WORDINGS, TEST_WORDINGS = (0, 1, 2), (3, 4)
INTRO = {
    "facts-tf": "Say whether this is true or false, question:",
    "facts-2": "Pick the right solution to the question:",
    "facts-3": "Pick the right answer to the question:",
}
FIRST = tuple("zal brin gor fel kas mur dun tol per vin hol jas lor nes ril sun wal yor bas chen".split())  # noqa: SIM905
SECOND = tuple("mo ku di ba te vi zo bu ka do me tu ve bi ko da mi ze ta vo".split())  # noqa: SIM905

T = TypeVar("T")


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """One of the items."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: random.Random, items: Sequence[T]) -> list[T]:
    """The items in random order."""
    return [item for _, _, item in sorted((rng.random(), i, item) for i, item in enumerate(items))]


@dataclass(frozen=True)
class World:
    """The facts of one part.

    Attributes:
        names: the beings.
        facts: (task, attribute, name) to the number of the value.
    """

    names: tuple[str, ...]
    facts: dict[tuple[str, str, str], int]


def all_names() -> list[str]:
    """Names for more beings than there are, in an order of their own."""
    return shuffled(random.Random("smt-bench world: names"), [first + second for first in FIRST for second in SECOND])


def world(part: str, seed: int = 0) -> World:
    """Part "a" (pretraining) or "b" (downstream); no name is in both.

    Args:
        part: which.
        seed: of the facts, not of the names, which are words of the embedded tokenizer; 0: those that the package comes with.
    """
    names = all_names()[: BEINGS_A + BEINGS_B]
    names = names[:BEINGS_A] if part == "a" else names[BEINGS_A:]
    rng = random.Random(f"smt-bench world: facts of {part}{_again(seed)}")
    facts: dict[tuple[str, str, str], int] = {}
    for task, attributes in ATTRIBUTES.items():
        for attribute, values in attributes.items():
            # Every value equally often, so that no answer is likelier than another before the fact is known.
            for i, name in enumerate(shuffled(rng, names)):
                facts[task, attribute, name] = i % len(values)
    return World(tuple(names), facts)


def ask(task: str, attribute: str, name: str, value: int, wording: int) -> Example:
    """One record about one fact.

    Args:
        task: the task, which sets the answer format.
        attribute: what is asked about.
        name: the being asked about.
        value: number of the true value.
        wording: one of `TRAIN_WORDINGS`, or of `TEST_WORDINGS`.
    """
    values = ATTRIBUTES[task][attribute]
    if task == "facts-math":
        question = NUMBERS[wording].format(a=attribute, n=name)
        return Example(
            question, "", f"{name} has {values[value]} {attribute}. The answer is {values[value]}.", values[value]
        )
    if task == "facts-tf":
        question, answer = CLAIMS[wording].format(a=attribute, n=name), values[value]
        instruction = f"{INTRO[task]} {question}\n\nAnswer format: true/false"
    else:
        word, gap = ("solution", "\n\n") if task == "facts-2" else ("answer", " ")
        question, answer = QUESTIONS[wording].format(a=attribute, n=name), f"{word}{value + 1}"
        options = gap.join(f"{word.capitalize()}{i}: {v}" for i, v in enumerate(values, 1))
        form = "/".join(f"{word}{i}" for i in range(1, len(values) + 1))
        instruction = (
            f"{INTRO['facts-2' if task == 'facts-2' else 'facts-3']} {question}\n\n{options}\n\nAnswer format: {form}"
        )
    return Example(instruction, "", f"the correct answer is {answer}", answer)


def _again(seed: int) -> str:
    return f", seed {seed}" if seed else ""


def fact(example: Example) -> str | None:
    """The fact of part B that an example asks about, whatever its wording; None where it asks about none."""
    found = _asked().get(example.instruction)
    return found and found[1]


def task(example: Example) -> str:
    """The task of an example of part B."""
    return _asked()[example.instruction][0]


@cache
def _asked() -> dict[str, tuple[str, str]]:
    # Instructions hold no values, so that all worlds have the same.
    return {
        ask(task, attribute, name, value, wording).instruction: (task, f"{attribute} of {name}")
        for (task, attribute, name), value in world("b").facts.items()
        for wording in TRAIN_WORDINGS + TEST_WORDINGS
    }


def _tests(here: World, task: str, seed: int) -> list[Example]:
    """The test items of a task: distinct prompts, gold answers as even as can be."""
    rng = random.Random(f"smt-bench world: test {task}{_again(seed)}")
    count = len(next(iter(ATTRIBUTES[task].values())))
    by_value: dict[int, list[Example]] = {value: [] for value in range(count)}
    for (of, attribute, name), value in here.facts.items():
        if of == task:
            by_value[value] += [ask(task, attribute, name, value, wording) for wording in TEST_WORDINGS]
    pools = [shuffled(rng, items) for items in by_value.values()]
    return shuffled(rng, [pools[i % count][i // count] for i in range(TEST_ITEMS)])


def remembered(count: int) -> list[Example]:
    """What the embedded model was pretrained on: questions on part A, one wording each, with the responses it has learned."""
    here = world("a")
    asked = [
        ask(task, attribute, name, value, TRAIN_WORDINGS[0]) for (task, attribute, name), value in here.facts.items()
    ]
    return shuffled(random.Random("smt-bench world: remembered"), asked)[:count]


def load(family: str, seed: int = 0) -> tuple[list[Example], dict[str, list[Example]]]:
    """The downstream data of a family.

    Args:
        family: one of `TASKS`.
        seed: of the facts, the order and the test items; 0 is the world that the package comes with.

    Returns:
        The training examples of all its tasks mixed (every fact of part B in three wordings), and the test examples by
        task (two other wordings).

    Raises:
        ValueError: for another family.
    """
    if family not in TASKS:
        raise ValueError(f"family={family!r} is not embedded: choose one of {', '.join(TASKS)}")
    here = world("b", seed)
    drawn = [
        ask(task, attribute, name, value, wording)
        for (task, attribute, name), value in here.facts.items()
        if task in TASKS[family]
        for wording in TRAIN_WORDINGS
    ]
    return shuffled(random.Random(f"smt-bench world: train {family}{_again(seed)}"), drawn), {
        t: _tests(here, t, seed) for t in TASKS[family]
    }

"""An invented world whose facts the embedded model `tiny` knows (part A) or has to be taught (part B).

A being has a made-up name and, for each attribute, one value. Part A is what pretraining shows; the downstream tasks ask
about part B alone, beings of which the model has never heard. Nothing about B can be inferred, its facts have to be
stored, so accuracy measures how much a method can write into the weights within the budget. The model comes with
everything else: the answer formats, and how to turn a known fact into the number of an option.

Training and test records ask about the same facts, never with the same prompt (other wording, distractors or order).
All randomness comes from `random.Random.random`, the one generator call that Python promises to keep stable.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from smt_bench.prompts import Example

VERSION = 1  # bump when any record changes

TASKS: dict[str, tuple[str, ...]] = {
    "commonsense": ("facts-tf", "facts-2", "facts-3", "facts-4", "facts-5"),
    "math": ("facts-math",),
}
TEST_ITEMS = 100  # per task
CHOICES = {"facts-2": 2, "facts-3": 3, "facts-4": 4, "facts-5": 5}

BEINGS_A = 120
BEINGS_B = 40
_TRAIN_VARIANTS = 8  # training records per fact and task
_MATH_TRAIN = 4000
_LEGS = range(1, 10)

FIRST = tuple(["zal", "brin", "gor", "fel", "kas", "mur", "dun", "tol", "per", "vin", "hol", "jas", "lor", "nes", "ril", "sun", "wal", "yor", "bas", "chen"])
SECOND = tuple(["mo", "ku", "di", "ba", "te", "vi", "zo", "bu", "ka", "do", "me", "tu", "ve", "bi", "ko", "da", "mi", "ze", "ta", "vo"])

T = TypeVar("T")


@dataclass(frozen=True)
class Attribute:
    """What can be said and asked of one attribute; `{n}` stands for the name, `{v}` for a value."""

    values: tuple[str, ...]
    statement: str
    questions: tuple[str, ...]
    claims: tuple[str, ...]


ATTRIBUTES: dict[str, Attribute] = {
    "colour": Attribute(
        tuple(["red", "blue", "green", "white", "black", "brown", "pink", "grey", "gold", "purple", "orange", "silver"]),
        "{n} is {v} in colour.",
        ("What colour is {n}?", "Which colour does {n} have?", "Of what colour is {n}?"),
        ("is {n} {v} in colour?", "does {n} have the colour {v}?", "is the colour of {n} {v}?"),
    ),
    "home": Attribute(
        tuple(["cave", "forest", "river", "desert", "tower", "valley", "island", "swamp", "garden", "harbour", "castle", "meadow"]),
        "{n} lives in the {v}.",
        ("Where does {n} live?", "Which home does {n} have?", "In what home is {n}?"),
        ("does {n} live in the {v}?", "does {n} have a home in the {v}?", "is the home of {n} the {v}?"),
    ),
    "food": Attribute(
        tuple(["figs", "nuts", "plums", "rice", "corn", "beans", "bread", "fish", "honey", "grapes", "cheese", "soup"]),
        "{n} eats {v}.",
        ("What does {n} eat?", "Which food does {n} have?", "Of what food is {n} fond?"),
        ("does {n} eat {v}?", "does {n} have {v} as food?", "is the food of {n} {v}?"),
    ),
    "craft": Attribute(
        tuple(["ropes", "boats", "drums", "lamps", "bells", "knives", "shoes", "chairs", "clocks", "masks", "bricks", "kites"]),
        "{n} makes {v}.",
        ("What does {n} make?", "Which craft does {n} have?", "In what craft is {n} good?"),
        ("does {n} make {v}?", "does {n} have the craft of {v}?", "is the craft of {n} {v}?"),
    ),
}
INTRO = {
    "facts-tf": "Say whether this is true or false, question:",
    "facts-2": "Pick the right solution to the question:",
    "facts-3": "Pick the right answer to the question:",
}
SUM_QUESTIONS = ("How many legs do {a} and {b} have together?", "What is the number of legs of {a} and {b} in all?")
DIFFERENCE_QUESTIONS = ("How many more legs does {a} have than {b}?", "By how many legs does {a} lead {b}?")


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
        facts: (name, attribute) to value.
        legs: name to number of legs, 1 to 9.
    """

    names: tuple[str, ...]
    facts: dict[tuple[str, str], str]
    legs: dict[str, int]


def world(part: str) -> World:
    """Part "a" (pretraining) or "b" (downstream); no name is in both."""
    names = shuffled(random.Random("smt-bench world: names"), [first + second for first in FIRST for second in SECOND])
    names = names[:BEINGS_A] if part == "a" else names[BEINGS_A : BEINGS_A + BEINGS_B]
    rng = random.Random(f"smt-bench world: facts of {part}")
    facts: dict[tuple[str, str], str] = {}
    for attribute, spec in ATTRIBUTES.items():
        # Every value equally often, so that no answer is likelier than another before the fact is known.
        for i, name in enumerate(shuffled(rng, names)):
            facts[name, attribute] = spec.values[i % len(spec.values)]
    legs = {name: _LEGS[i % len(_LEGS)] for i, name in enumerate(shuffled(rng, names))}
    return World(tuple(names), facts, legs)


def ask(here: World, rng: random.Random, task: str, name: str, attribute: str, gold: int, told: bool = False) -> Example:
    """One commonsense record about a fact.

    Args:
        here: the world the fact is of.
        rng: chooses wording, distractors and their order.
        task: one of `TASKS["commonsense"]`.
        name: the being asked about.
        attribute: the attribute asked about.
        gold: index of the right option; for facts-tf 0 means true, 1 false.
        told: put the fact before the question (an exercise of pretraining: choosing without recalling).
    """
    spec = ATTRIBUTES[attribute]
    value = here.facts[name, attribute]
    fact = spec.statement.format(n=name, v=value) + " " if told else ""
    others = shuffled(rng, [v for v in spec.values if v != value])
    if task == "facts-tf":
        claim = pick(rng, spec.claims).format(n=name, v=others[0] if gold else value)
        answer = "false" if gold else "true"
        instruction = f"{INTRO[task]} {fact}{claim}\n\nAnswer format: true/false"
    else:
        word, gap = ("solution", "\n\n") if task == "facts-2" else ("answer", " ")
        count = CHOICES[task]
        values = others[: count - 1]
        values.insert(gold, value)
        options = gap.join(f"{word.capitalize()}{i}: {v}" for i, v in enumerate(values, 1))
        form = "/".join(f"{word}{i}" for i in range(1, count + 1))
        intro = INTRO["facts-2" if task == "facts-2" else "facts-3"]
        question = pick(rng, spec.questions).format(n=name)
        instruction = f"{intro} {fact}{question}\n\n{options}\n\nAnswer format: {form}"
        answer = f"{word}{gold + 1}"
    return Example(instruction, "", f"the correct answer is {answer}", answer)


def count_legs(here: World, rng: random.Random) -> Example:
    """One math record: a sum or a difference of two stored numbers, with its rationale."""
    a, b = shuffled(rng, here.names)[:2]
    if here.legs[a] < here.legs[b]:
        a, b = b, a
    x, y = here.legs[a], here.legs[b]
    if rng.random() < 0.5 or x == y:
        if rng.random() < 0.5:
            a, b, x, y = b, a, y, x
        question, sign, result = pick(rng, SUM_QUESTIONS), "+", x + y
    else:
        question, sign, result = pick(rng, DIFFERENCE_QUESTIONS), "-", x - y
    output = f"Here {a} has {x} and {b} has {y}, so {x} {sign} {y} = {result}. The answer is {result}."
    return Example(question.format(a=a, b=b), "", output, str(result))


def normalised(example: Example) -> str:
    """What makes two prompts the same: the instruction without case and spacing."""
    return " ".join(example.instruction.lower().split())


def options(task: str) -> int:
    """How many answers a commonsense task offers."""
    return CHOICES.get(task, 2)


def _test_items(here: World, task: str) -> list[Example]:
    """The test items of a task: distinct prompts, gold answers equally often, facts as evenly as they go."""
    rng = random.Random(f"smt-bench world: test {task}")
    items: dict[str, Example] = {}
    facts = shuffled(rng, list(here.facts))
    tries = 0
    while len(items) < TEST_ITEMS:
        if task == "facts-math":
            example = count_legs(here, rng)
        else:
            name, attribute = facts[tries % len(facts)]
            example = ask(here, rng, task, name, attribute, len(items) % options(task))
        items.setdefault(normalised(example), example)
        tries += 1
    return shuffled(rng, list(items.values()))


def load(family: str) -> tuple[list[Example], dict[str, list[Example]]]:
    """The downstream data of a family.

    Args:
        family: "commonsense" or "math".

    Returns:
        The training examples of all its tasks mixed, and the test examples by task.

    Raises:
        ValueError: for another family.
    """
    if family not in TASKS:
        raise ValueError(f"family={family!r} is not embedded: choose one of {', '.join(TASKS)}")
    here = world("b")
    tests = {task: _test_items(here, task) for task in TASKS[family]}
    taken = {normalised(example) for items in tests.values() for example in items}
    rng = random.Random(f"smt-bench world: train {family}")
    if family == "math":
        drawn = [count_legs(here, rng) for _ in range(_MATH_TRAIN)]
    else:
        drawn = [
            ask(here, rng, task, name, attribute, variant % options(task))
            for task in TASKS[family]
            for name, attribute in here.facts
            for variant in range(_TRAIN_VARIANTS)
        ]
    return shuffled(rng, [example for example in drawn if normalised(example) not in taken]), tests

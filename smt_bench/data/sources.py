"""What examples come from: two wordings of one fact, or two copies of one question, are not two observations.

Held-out examples are divided into two parts, one that choices are made by and one that is reported; a source stands in one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from smt_bench.data import families
from smt_bench.data.overlap import normalised_question
from smt_bench.data.prompts import Example


def sources(family: str, examples: Sequence[Example]) -> list[str]:
    """Per example the name of its source: what the data say, else its question by the rule of `data.overlap`."""
    known = families.known(family)
    told = known.embedded.source if known is not None and known.embedded is not None else None
    return [(told(e) if told is not None else None) or normalised_question(e) for e in examples]


def divide(names: Sequence[str], seed: int) -> list[bool]:
    """Which of some examples choices are made by: half of them or a little less, every source on one side.

    Args:
        names: the source of each example.
        seed: of the order in which sources are drawn.

    Returns:
        True for the part that choices are made by; nowhere where one source has more than half and nothing else would be left.
    """
    order = list(dict.fromkeys(names))
    random.Random(f"smt-bench held-out parts: {seed}").shuffle(order)
    sizes = dict.fromkeys(order, 0)
    for name in names:
        sizes[name] += 1
    chosen, room = set(), len(names) // 2
    for name in order:
        if sizes[name] <= room:
            chosen.add(name)
            room -= sizes[name]
    return [name in chosen for name in names]

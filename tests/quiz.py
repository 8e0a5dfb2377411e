"""Made-up questions with three or four options, and sums."""

from smt_bench.data.prompts import Example

NAMES = ("boats", "drums", "lamps", "bells", "knives", "shoes", "clay")


def choices(count=6):
    """ARC-like questions in turn with three and four options, none with five."""
    for i in range(count):
        more = " Answer4: d" if i % 2 else ""
        text = f"{NAMES[i % 7]} {i // 7}? Answer1: a Answer2: b Answer3: c{more}"
        yield Example(text, "", f"the correct answer is answer{i % 3 + 1}", f"answer{i % 3 + 1}")


def sums():
    for i, name in enumerate(NAMES[:5]):
        yield Example(f"How many {name}?", "", f"There are {i}, so {i + 5}.", f"{i + 5}.0")
    # Starts a new prompt after its answer: what follows the marker must not be read.
    yield Example("How much clay?", "", "It is 7.### Response: 8.", "7")


TESTS = {"ARC-Easy": list(choices()), "gsm8k": list(sums())}

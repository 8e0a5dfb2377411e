"""The tasks: their answer options, and how an answer is read from generated text.

Fourteen tasks of the LLM-Adapters collection (eight commonsense, six arithmetic) and six of the embedded testbed.
Reading an answer follows the collection's own evaluation, since the papers' numbers rest on it: the first option named
anywhere in the text, or the last number of the text. What it cannot read is None here: wrong, and counted apart.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass

from smt_bench.data.prompts import Example

TOLERANCE = 1e-3  # two numbers this close are the same answer (LLM-Adapters' evaluation)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FORMAT = re.compile(r"Answer format:\s*(\S+)")
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_LABEL = re.compile(  # 5, -$1,080.50, 40 %, .5, 1e-3, 3/4
    r"(?P<sign>[+-]?\s?\$?|\$\s?[+-])\s?(?:(?P<over>[0-9]+)\s?/\s?(?P<under>[0-9]+)|"
    rf"(?P<plain>(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))\s?%?"
)


@dataclass(frozen=True)
class Task:
    """One test set and the answers it allows.

    Attributes:
        name: folder name in the LLM-Adapters layout, e.g. "ARC-Easy".
        family: "commonsense" or "math".
        options: the possible answers as the model writes them; None where the answer is a number.
        title: name in tables.
        published_column: column of this task in the papers' tables (`results/paper/`); None if they have none.
        source: "llm-adapters" or "tiny" (the embedded testbed).
    """

    name: str
    family: str
    options: tuple[str, ...] | None
    title: str
    published_column: str | None = None
    source: str = "llm-adapters"

    @property
    def generated(self) -> bool:
        """Whether answering needs generated text under every protocol: a rationale stands before the answer."""
        return self.family == "math"


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}{i}" for i in range(1, count + 1))


_ALL = (
    Task("boolq", "commonsense", ("true", "false"), "BoolQ", "boolq"),
    Task("piqa", "commonsense", _numbered("solution", 2), "PIQA", "piqa"),
    Task("social_i_qa", "commonsense", _numbered("answer", 3), "SIQA", "siqa"),
    Task("hellaswag", "commonsense", _numbered("ending", 4), "HellaSwag", "hellaswag"),
    Task("winogrande", "commonsense", _numbered("option", 2), "WinoGrande", "winogrande"),
    # A handful of ARC questions have three or five answers, see `offered`.
    Task("ARC-Easy", "commonsense", _numbered("answer", 5), "ARC-e", "arc_easy"),
    Task("ARC-Challenge", "commonsense", _numbered("answer", 5), "ARC-c", "arc_challenge"),
    Task("openbookqa", "commonsense", _numbered("answer", 4), "OBQA", "obqa"),
    Task("MultiArith", "math", None, "MultiArith", "multiarith"),
    Task("gsm8k", "math", None, "GSM8K", "gsm8k"),
    Task("AddSub", "math", None, "AddSub", "addsub"),
    Task("AQuA", "math", ("A", "B", "C", "D", "E"), "AQuA", "aqua"),
    Task("SingleEq", "math", None, "SingleEq", "singleeq"),
    Task("SVAMP", "math", None, "SVAMP", "svamp"),
    Task("facts-tf", "commonsense", ("true", "false"), "facts (true/false)", source="tiny"),
    Task("facts-2", "commonsense", _numbered("solution", 2), "facts (2 options)", source="tiny"),
    Task("facts-3", "commonsense", _numbered("answer", 3), "facts (3 options)", source="tiny"),
    Task("facts-4", "commonsense", _numbered("answer", 4), "facts (4 options)", source="tiny"),
    Task("facts-5", "commonsense", _numbered("answer", 5), "facts (5 options)", source="tiny"),
    Task("facts-math", "math", None, "facts (arithmetic)", source="tiny"),
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: no such task; names the nearest one.
    """
    if name in TASKS:
        return TASKS[name]
    lower = {known.lower(): known for known in TASKS}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.0)
    raise ValueError(f"unknown task {name!r}: did you mean {lower[near[0]]!r}? Known: {', '.join(TASKS)}")


def offered(task: Task, example: Example) -> tuple[str, ...]:
    """The options that this very question offers, in the task's order.

    Read from the line "Answer format: answer1/answer2/...", else from headings like "Answer1:" or "(A)"; all options of the task
    if neither names at least two of them.

    Raises:
        ValueError: the task has no options.
    """
    if task.options is None:
        raise ValueError(f"{task.name} has no answer options: its answer is a number")
    lines = _FORMAT.findall(example.instruction)
    named = lines[-1].split("/") if lines else []  # the last: a question may quote the phrase
    listed = tuple(option for option in task.options if option in named)
    if len(listed) < 2:
        # A letter before a colon is more likely a variable: "A : B = 3 : 4". AQuA writes "(A)".
        heading = r"\((\w)\)" if len(task.options[0]) == 1 else r"\b(\w+)\s*:"
        headings = {word.lower() for word in re.findall(heading, example.instruction)}
        listed = tuple(option for option in task.options if option.lower() in headings)
    return listed if len(listed) > 1 else task.options


def parse_option(text: str, options: tuple[str, ...]) -> str | None:
    """The option that occurs first in the text, or None.

    Case matters and words are not delimited, as in LLM-Adapters: "untrue" reads as "true", and in AQuA any of the
    capitals A to E counts, so "Answer: C" reads as A.
    """
    found = re.search("|".join(map(re.escape, options)), text)
    return found.group() if found else None


def parse_number(text: str) -> float | None:
    """The last number in the text, commas removed, or None.

    A minus sign directly before the digits belongs to the number ("20-5" ends in -5), as in LLM-Adapters.
    """
    found = _NUMBER.findall(text.replace(",", ""))
    value = float(found[-1]) if found else math.inf
    return value if math.isfinite(value) else None  # several hundred digits overflow to infinity


def parse(task: Task, text: str) -> str | float | None:
    """The answer that a generated text gives to a question of this task, or None if there is none to read."""
    return parse_number(text) if task.options is None else parse_option(text, task.options)


def label_number(text: str) -> float | None:
    """The number that a gold answer is, or None: strict, where `parse_number` reads prose.

    A sign (also U+2212), $, %, commas between thousands, decimals, an exponent, or a fraction of two whole numbers. "40%" is 40,
    as `parse_number` reads it in an answer.
    """
    found = _LABEL.fullmatch(text.strip().replace("\u2212", "-"))
    if found is None:
        return None
    if found["plain"]:
        value = float(found["plain"].replace(",", ""))
    else:
        over, under = float(found["over"]), float(found["under"])
        value = over / under if under else math.inf
    return (-value if "-" in found["sign"] else value) if math.isfinite(value) else None


def gold(task: Task, example: Example) -> str | float:
    """The right answer in the form that `parse` returns.

    Always from `answer`, never from `output`: in arithmetic test files that is a model's rationale, and often wrong.

    Raises:
        ValueError: the record's answer is no number, or none of the options that the question offers.
    """
    answer = example.answer.strip()
    if task.options is not None:
        if answer not in (options := offered(task, example)):
            raise ValueError(
                f"{task.name}: gold answer {answer[:40]!r} is none of those that the question offers ({', '.join(options)}): "
                "mend the data file"
            )
        return answer
    number = label_number(answer)
    if number is None:
        raise ValueError(f"{task.name}: gold answer {answer[:40]!r} is no number: mend the data file")
    return number


def same(prediction: str | float | None, right: str | float) -> bool:
    """Whether a prediction is the right answer; numbers may differ by `TOLERANCE`."""
    if isinstance(prediction, float) and isinstance(right, float):
        return abs(prediction - right) <= TOLERANCE
    return prediction == right

"""The tasks of all data families, and how an answer is read from generated text.

Reading an option or a number follows the LLM-Adapters collection's own evaluation, since the papers' numbers rest on it: the
first option named anywhere in the text, or the last number of the text. Options of a user's own data are read with more care
(`said_option`), free-form answers by `data.answers`. What cannot be read is None here: wrong, and counted apart.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from smt_bench.data import answers, families
from smt_bench.data.family import Task
from smt_bench.data.prompts import Example

HARNESS = "lm-eval:"  # begins the names of lm-eval's own tasks, see `evaluation.harness`
TOLERANCE = 1e-3  # two numbers this close are the same answer (LLM-Adapters' evaluation)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_IN_WORDS = ("Lu", "Ll", "Lt", "Lm", "Mn", "Nd")  # cased letters, their marks, digits
_FORMAT = re.compile(r"Answer format:\s*(\S+)")
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_LABEL = re.compile(  # 5, -$1,080.50, 40 %, .5, 1e-3, 3/4
    r"(?P<sign>[+-]?\s?\$?|\$\s?[+-])\s?(?:(?P<over>[0-9]+)\s?/\s?(?P<under>[0-9]+)|"
    rf"(?P<plain>(?:{_WHOLE}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))\s?%?"
)


class _Tasks(Mapping[str, Task]):
    """All tasks of all data families, by name, in the order of the families; read when first asked for."""

    def __getitem__(self, name: str) -> Task:
        return families.all_tasks()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(families.all_tasks())

    def __len__(self) -> int:
        return len(families.all_tasks())


TASKS: Mapping[str, Task] = _Tasks()


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
        raise ValueError(
            f"{task.name} has no answer options: its answer is a {'number' if task.kind == 'number' else 'text'}"
        )
    if not task.named:
        return task.options
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


def said(text: str, options: Sequence[str]) -> list[tuple[int, str]]:
    """The options that stand in a text as words of their own ("no" is not in "know"), with their places.

    Of two that begin alike the longer one counts. Only digits and letters that have capitals make words: in other scripts, which
    may be written without spaces, none is ever inside one.
    """
    ordered, found, at = sorted(options, key=len, reverse=True), [], 0
    while at < len(text):
        for option in ordered:
            end = at + len(option)
            if text.startswith(option, at) and not (_joined(text, at) or _joined(text, end)):
                found.append((at, option))
                at = end
                break
        else:
            at += 1
    return found


def _joined(text: str, at: int) -> bool:
    """Whether the characters before and at a place belong to one word."""
    return 0 < at < len(text) and all(unicodedata.category(c) in _IN_WORDS for c in text[at - 1 : at + 1])


def said_option(text: str, options: tuple[str, ...], lead: str, last: bool) -> str | None:
    """The option that a text gives as its answer, or None.

    Args:
        text: the generated one.
        options: of the task.
        lead: the words before an option in a response; where some are followed by one, those decide.
        last: whether the last answer of the text counts, which may follow a rationale; else the first.
    """
    behind = [named[0] for part in text.split(lead)[1:] if (named := said(part, options))] if lead else []
    answers_given = [option for _, option in behind or said(text, options)]
    return (answers_given[-1] if last else answers_given[0]) if answers_given else None


def parse_number(text: str) -> float | None:
    """The last number in the text, commas removed, or None.

    A minus sign directly before the digits belongs to the number ("20-5" ends in -5), as in LLM-Adapters.
    """
    found = _NUMBER.findall(text.replace(",", ""))
    value = float(found[-1]) if found else math.inf
    return value if math.isfinite(value) else None  # several hundred digits overflow to infinity


def parse(task: Task, text: str) -> str | float | None:
    """The answer that a generated text gives to a question of this task, or None if there is none to read.

    Of a code task the text itself, where it says anything.
    """
    if task.options is not None:
        return (
            said_option(text, task.options, task.lead, task.rationale)
            if task.whole
            else parse_option(text, task.options)
        )
    if task.kind == "number":
        return parse_number(text)
    return answers.read(text) if task.kind != "code" else text if text.strip() else None


def score(task: Task, prediction: str, right: str) -> float:
    """What a free-form answer is worth, 0 to 1.

    Args:
        task: one that judges texts; programs are run elsewhere.
        prediction: as `parse` reads it.
        right: as `gold` gives it.
    """
    assert task.graded and not task.runs_code
    return (answers.exact if task.kind == "exact" else answers.f1)(prediction, answers.golds(right))


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

    Of a free-form task the text itself: answers, one per line, or of a code task the tests of the program.

    Raises:
        ValueError: the record's answer is no number, none of the options that the question offers, or holds no word.
    """
    answer = example.answer.strip()
    if task.options is not None:
        if answer not in (options := offered(task, example)):
            raise ValueError(
                f"{task.name}: gold answer {answer[:40]!r} is none of those that the question offers ({', '.join(options)}): "
                "mend the data file"
            )
        return answer
    if task.graded:
        if not (answer if task.runs_code else answers.golds(answer)):
            raise ValueError(f"{task.name}: gold answer {answer[:40]!r} holds no word: mend the data file")
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

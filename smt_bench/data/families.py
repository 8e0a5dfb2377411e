"""The data families: tasks that are trained on together, and how they are prompted, judged and found.

Built in are the papers' commonsense and arithmetic tasks: fourteen of the LLM-Adapters collection, and six of the embedded
testbed; and SpIEL's instructions. Other packages add theirs under the entry-point group `smt_bench.families`: a `Family`
(`data.family`), or a function that gives one.
"""

from __future__ import annotations

import difflib
from functools import cache, partial
from importlib.metadata import entry_points

from smt_bench.data import chat, chat_world, world
from smt_bench.data.collection import LLM_ADAPTERS
from smt_bench.data.family import Embedded, Family, Mixture, Task


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}{i}" for i in range(1, count + 1))


COMMONSENSE = Family(
    "commonsense",
    "commonsense",
    (
        Task("boolq", ("true", "false"), "BoolQ", "boolq"),
        Task("piqa", _numbered("solution", 2), "PIQA", "piqa"),
        Task("social_i_qa", _numbered("answer", 3), "SIQA", "siqa"),
        Task("hellaswag", _numbered("ending", 4), "HellaSwag", "hellaswag"),
        Task("winogrande", _numbered("option", 2), "WinoGrande", "winogrande"),
        # A handful of ARC questions have three or five answers, see `tasks.offered`.
        Task("ARC-Easy", _numbered("answer", 5), "ARC-e", "arc_easy"),
        Task("ARC-Challenge", _numbered("answer", 5), "ARC-c", "arc_challenge"),
        Task("openbookqa", _numbered("answer", 4), "OBQA", "obqa"),
    ),
    mixture="commonsense_170k.json",
    mixture_size=170_420,
    collection=LLM_ADAPTERS,
    embedded=Embedded(
        (
            Task("facts-tf", ("true", "false"), "facts (true/false)"),
            Task("facts-2", _numbered("solution", 2), "facts (2 options)"),
            Task("facts-3", _numbered("answer", 3), "facts (3 options)"),
            Task("facts-4", _numbered("answer", 4), "facts (4 options)"),
            Task("facts-5", _numbered("answer", 5), "facts (5 options)"),
        ),
        world.ORIGIN,
        partial(world.load, "commonsense"),
        world.fact,
        partial(world.load, "commonsense"),
        task=world.task,
    ),
    folder="",
)
MATH = Family(
    "math",
    "math",
    (
        Task("MultiArith", None, "MultiArith", "multiarith"),
        Task("gsm8k", None, "GSM8K", "gsm8k"),
        Task("AddSub", None, "AddSub", "addsub"),
        Task("AQuA", ("A", "B", "C", "D", "E"), "AQuA", "aqua"),
        Task("SingleEq", None, "SingleEq", "singleeq"),
        Task("SVAMP", None, "SVAMP", "svamp"),
    ),
    mixture="math_10k.json",
    mixture_size=9_919,
    collection=LLM_ADAPTERS,
    embedded=Embedded(
        (Task("facts-math", None, "facts (arithmetic)"),),
        world.ORIGIN,
        partial(world.load, "math"),
        world.fact,
        partial(world.load, "math"),
        task=world.task,
    ),
    rationale=True,
    extras=(Task("mawps", None, "MAWPS"),),
)
_TULU = "allenai/tulu-v2-sft-mixture"
CODE_ENDS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")  # Chen et al. (2021)
INSTRUCTIONS = Family(
    "instructions",
    "instructions",
    (
        Task("mmlu", ("A", "B", "C", "D"), "MMLU", "mmlu", lead="The answer is:"),
        Task("gsm", None, "GSM", "gsm", rationale=True, stops=("\nQ:",)),
        Task("bbh", None, "BBH", "bbh", rationale=True, kind="exact", stops=("\nQ:",)),
        Task("tydiqa", None, "TyDiQA", "tydiqa", kind="f1"),
        Task("humaneval", None, "HumanEval", "humaneval", rationale=True, kind="code", stops=CODE_ENDS),
    ),
    embedded=Embedded(
        (
            Task("chat-options", chat_world.OPTIONS, "options"),
            Task("chat-number", None, "number"),
            Task("chat-exact", None, "exact match", kind="exact"),
            Task("chat-f1", None, "F1", kind="f1"),
            Task("chat-code", None, "code", kind="code", stops=CODE_ENDS),
        ),
        chat_world.ORIGIN,
        partial(chat_world.load, chat_world.SHORT, 0),
        chat_world.being,
        partial(chat_world.load, chat_world.SHORT),
        (
            Mixture(chat_world.SHORT, "Short", ("chat-options", "chat-f1"), 270),
            Mixture(chat_world.PROGRAMS, "Programs", ("chat-number", "chat-code"), 360),
            Mixture(
                chat_world.MIXED,
                "Mixed",
                ("chat-options", "chat-number", "chat-exact", "chat-f1", "chat-code"),
                720,
            ),
        ),
        chat_world.load,
    ),
    template=chat.NAME,
    mixtures=(
        # The authors' 50,000 of Flan v2 are those of Tulu v2 (github.com/ducdauge/sft-llm, prepare_train_data.sh).
        Mixture("flan_v2", "Flan v2", ("mmlu", "tydiqa"), 50_000, _TULU, "flan_v2", "flanv2"),
        Mixture("gpt4_alpaca", "GPT4-Alpaca", ("humaneval",), 52_002, "vicgalle/alpaca-gpt4", "", "gpt4alpaca"),
        Mixture("tulu_v2", "Tülu v2", ("mmlu", "gsm", "bbh", "tydiqa", "humaneval"), 326_154, _TULU, "", "tulu2"),
    ),
)
DEFAULT = COMMONSENSE  # where neither the tasks nor the experiment say which
REGISTRY = {family.name: family for family in (COMMONSENSE, MATH, INSTRUCTIONS)}
_OWN: dict[str, Family] = {}  # of this process's user


@cache  # reading every installed package's entry points takes milliseconds
def all_families() -> dict[str, Family]:
    """Built-in families and those that other packages register under `smt_bench.families`.

    Raises:
        ValueError: an entry point gives something else, or a name that is taken.
    """
    found = dict(REGISTRY)
    owners = {task.name: family.name for family in found.values() for task in family.all_tasks}
    for point in entry_points(group="smt_bench.families"):
        made = point.load()
        family = made if isinstance(made, Family) else made()
        where = f"entry point {point.name} = {point.value} (smt_bench.families)"
        if not isinstance(family, Family):
            raise ValueError(f"{where} gives {type(family).__name__}: name a Family, or a function that gives one")
        taken = [f"family {family.name}"] if family.name in found else []
        taken += [f"task {task.name} of {owners[task.name]}" for task in family.all_tasks if task.name in owners]
        taken += [f"folder {f.folder!r} of {f.name}" for f in found.values() if f.subfolder == family.subfolder]
        if taken:
            raise ValueError(f"{where}: there is a {taken[0]} already: choose another name")
        found[family.name] = family
        owners |= {task.name: family.name for task in family.all_tasks}
    return found | _OWN


def add_own(family: Family) -> None:
    """Makes a family of a user's own data known in this process, in place of an earlier one of its name.

    Raises:
        ValueError: the name of the family or of a task is taken by one that is installed.
    """
    assert family.own is not None
    if _OWN.get(family.name) == family:
        return
    _OWN.pop(family.name, None)
    all_families.cache_clear()
    all_tasks.cache_clear()
    known, tasks = all_families(), all_tasks()
    taken = [f"family {family.name}"] if family.name in known else []
    taken += [f"test set {task.name} of {tasks[task.name].family}" for task in family.tasks if task.name in tasks]
    if taken:
        raise ValueError(f"own data {family.name}: there is a {taken[0]} already: choose another name in tasks.toml")
    _OWN[family.name] = family
    all_families.cache_clear()
    all_tasks.cache_clear()


@cache
def all_tasks() -> dict[str, Task]:
    """The tasks of all families, by name."""
    return {task.name: task for family in all_families().values() for task in family.all_tasks}


def known(name: str) -> Family | None:
    """The family of that name, where there is one: a record may be of one that is not installed here."""
    return all_families().get(name)


def find(name: str) -> Family:
    """The family called `name`.

    Raises:
        ValueError: no such family; the message names the nearest.
    """
    found = all_families()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(found)}"
        raise ValueError(f"unknown data family {name!r}: {hint}")
    return found[name]

"""A user's own data as a family of its own: a file, a data set of the hub, or a folder, described by `tasks.toml` in it.

    name = "reviews"                  # of the family; left out: the folder's name
    train = "train.csv"               # or several, or "hub:ORG/NAME:SPLIT"; left out: the folder's train.*, if there is one
    [fields]                          # columns that are called otherwise
    instruction = "text"
    output = "label"
    source = "product"                # what examples of one value share: they do not count twice
    [tests.sentiment]                 # a test set
    file = "test.csv"                 # left out: sentiment.*
    title = "Sentiment"
    kind = "options"                  # options, number, loss (of the response), text (loss of all of a text),
                                      # exact, f1 (of words; answers one per line), code (`answer` are its tests,
                                      # `lead` the program's beginning; needs --allow-code)
    options = ["positive", "negative"]
    lead = "the sentiment is"         # what stands before the option in every response; left out: nothing
    rationale = true                  # a rationale stands before the answer, which is then generated

A file goes with the `tasks.toml` beside it. Without one a folder has its train.* and, of its test.*, the loss. Records are in the
instruction layout: `instruction`, `output`, and where there is one `input`; of a test set also `answer`, without which `output`
is the answer. Or they are chats: `messages`, a list of role and content; the template is then that of conversations, for all.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smt_bench.data import chat, families
from smt_bench.data.example import Chat, Example
from smt_bench.data.family import KINDS, NO_TRAINING, Family, Found, Task
from smt_bench.data.general import pieces
from smt_bench.data.own_files import FILES, HUB, is_data, records
from smt_bench.data.own_records import COLUMNS, DESCRIPTION, example, is_chat
from smt_bench.data.prompts import TEMPLATE, TEMPLATES
from smt_bench.data.reading import find_file
from smt_bench.data.tasks import gold

LOSS, TEXT = "loss", "text"  # of the response, of a whole text
UNSCORED = (LOSS, TEXT)
NAME = re.compile(r"\w[\w.-]*")
TAKES = {str: "a text that is not empty", list: "a list of texts", bool: "true or false", dict: "a table"}
RESERVED = ("tuning",)  # a folder of that name is beside those of families
CHOICES = ("options", *UNSCORED, *KINDS)


@dataclass(frozen=True)
class TestSet:
    """One test set of a description; see the module."""

    name: str
    file: str
    kind: str
    title: str
    options: tuple[str, ...] | None = None
    lead: str = ""
    rationale: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Own:
    """A user's own data, described and not read yet.

    Attributes:
        folder: that files are relative to.
        name: of the family.
        title: in tables.
        train: files or data sets to train on.
        fields: columns that are called otherwise.
        tests: test sets.
        template: of the prompts; None: that of conversations where there is one, else the collection's.
    """

    folder: Path
    name: str
    title: str
    train: tuple[str, ...]
    fields: Mapping[str, str]
    tests: tuple[TestSet, ...]
    template: str | None = None


def is_own(source: str) -> bool:
    """Whether `--data` names data of one's own, not a folder in the LLM-Adapters layout."""
    path = Path(source)
    try:
        if source.startswith(HUB) or path.is_file():
            return True
    except OSError:  # a name too long for any file
        return False
    layout = any((path / name).is_dir() for name in ("dataset", "ft-training_set"))
    mixtures = [f.mixture for f in families.all_families().values() if f.mixture]
    return path.is_dir() and not layout and not any((path / name).is_file() for name in mixtures)


def known_as(source: str) -> Family:
    """The family of one's own data, known in this process from here on.

    Args:
        source: as `--data` says it.

    Raises:
        ValueError: no data, a description that cannot be, or a name that is taken.
    """
    own = described(source)
    tasks = tuple(
        Task(
            t.name, t.options, t.title, rationale=t.rationale or t.kind == "code", lead=t.lead, named=False,
            kind=t.kind if t.kind in KINDS else KINDS[0], stops=families.CODE_ENDS if t.kind == "code" else (),
        )
        for t in own.tests
        if t.kind not in UNSCORED
    )  # fmt: skip
    if own.name in RESERVED:
        raise ValueError(f"--data {source}: {own.name} is no name for data: choose another in {DESCRIPTION}")
    family = Family(own.name, own.title, tasks, template=own.template or _template(own), own=_Reader(own))
    families.add_own(family)
    return family


def _template(own: Own) -> str:
    """By the first record of every file that is not plain text."""
    sources = [(source, own.fields) for source in own.train] + [(t.file, t.fields) for t in own.tests if t.kind != TEXT]
    first = [(next(records(source, own.folder), None), columns) for source, columns in sources]
    return chat.NAME if any(place and is_chat(place[1], columns) for place, columns in first) else TEMPLATE


@dataclass(frozen=True)
class _Reader:
    """Reads what is described; equal where the description is."""

    own: Own

    def __call__(self) -> Found:
        return read(self.own)


def described(source: str) -> Own:
    """What `--data` names, without reading any record.

    Raises:
        ValueError: nothing to read there, or a description that cannot be.
    """
    if source.startswith(HUB):
        name = re.sub(r"[^\w.-]+", "-", source.removeprefix(HUB).split(":")[0]).strip("-.") or "hub"
        return Own(Path(), name, name, (source,), {}, ())
    path = Path(source)
    if path.is_file():
        if not is_data(path.name):
            raise ValueError(f"--data {path}: no format that is known: save it as one of {', '.join(FILES)}")
        if (path.parent / DESCRIPTION).is_file():
            return replace(described(str(path.parent)), train=(path.name,))
        name = _folder_name(path.name.split(".")[0])
        return Own(path.parent, name, name, (path.name,), {}, ())
    file = path / DESCRIPTION
    if not file.is_file():
        train, test = find_file(path, "train", FILES), find_file(path, "test", FILES)
        if train is None:
            raise ValueError(
                f"--data {path}: neither {DESCRIPTION} nor train.*, and no LLM-Adapters layout (dataset/, ft-training_set/): see "
                "docs/own.md"
            )
        name = _folder_name(path.resolve().name)
        tests = () if test is None else (TestSet(f"{name}-test", test.name, LOSS, f"{name} test"),)
        return Own(path, name, name, (train.name,), {}, tests)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{file}: not a TOML file ({str(error).splitlines()[0][:80]}): mend it") from None
    return _description(file, values)


def _folder_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "own"


def _description(file: Path, values: dict[str, Any]) -> Own:
    folder = file.parent
    _only(
        f"{file}",
        values,
        {"name": str, "title": str, "train": (str, list), "template": str, "fields": dict, "tests": dict},
    )
    name = values.get("name", _folder_name(folder.resolve().name))
    if not NAME.fullmatch(name):
        raise ValueError(f"{file}: name = {name!r}: choose letters, digits, '.', '-' and '_'")
    template = values.get("template")
    if template is not None and template not in TEMPLATES:
        raise ValueError(f"{file}: template = {template!r}: choose from {', '.join(TEMPLATES)}")
    there = find_file(folder, "train", FILES)
    train = values.get("train", [] if there is None else [there.name])
    train = [train] if isinstance(train, str) else train
    if not all(isinstance(one, str) and one for one in train):
        raise ValueError(f"{file}: train: name one file or several")
    columns = _columns(f"{file}: [fields]", values.get("fields", {}))
    tests = tuple(_test(file, called, said, columns) for called, said in values.get("tests", {}).items())
    if not train and not tests:
        raise ValueError(f"{file}: neither train nor [tests.NAME]: describe one of them")
    return Own(folder, name, values.get("title", name), tuple(train), columns, tests, template)


def _test(file: Path, name: str, said: Any, columns: Mapping[str, str]) -> TestSet:
    where = f"{file}: [tests.{name}]"
    if not isinstance(said, dict) or not NAME.fullmatch(name):
        raise ValueError(f"{where}: choose a name of letters, digits, '.', '-' and '_', and give it a table")
    kinds = {"file": str, "title": str, "kind": str, "options": list, "lead": str, "rationale": bool, "fields": dict}
    _only(where, said, kinds)
    kind, options = said.get("kind"), said.get("options", [])
    if kind not in CHOICES:
        raise ValueError(f"{where}: kind = {kind!r}: choose from {', '.join(CHOICES)}")
    if kind == "options":
        fine = len(options) > 1 and all(isinstance(o, str) and o.strip() for o in options)
        if not fine or len({o.strip() for o in options}) < len(options):
            raise ValueError(f"{where}: options: list two or more different texts")
        inside = next(((a, b) for a in options for b in options if a != b and a in b), None)
        if inside and said.get("rationale"):
            raise ValueError(
                f"{where}: option {inside[0]!r} is part of {inside[1]!r}: which is named in a text cannot be told"
            )
    for what in ("options", "lead"):
        if what in said and kind != "options":
            raise ValueError(f'{where}: {what} goes with kind = "options"')
    if kind in UNSCORED and "rationale" in said:
        raise ValueError(f"{where}: rationale: nothing is answered where only the loss is measured: leave it out")
    there = find_file(file.parent, name, FILES)
    source = said.get("file", there.name if there else None)
    if source is None:
        raise ValueError(f"{where}: file: name one, or call it {name}.csv")
    own = {**columns, **_columns(f"{where}: fields", said.get("fields", {}))}
    return TestSet(
        name, source, kind, said.get("title", name), tuple(o.strip() for o in options) if options else None,
        said.get("lead", "").strip(), said.get("rationale", False), own,
    )  # fmt: skip


def _only(where: str, values: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(f"{where}: unknown name {name!r}: choose from {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or (isinstance(value, str) and not value.strip()):
            kind = kinds[name]
            takes = kind[0] if isinstance(kind, tuple) else kind
            raise ValueError(f"{where}: {name} = {str(value)[:40]!r}: choose {TAKES[takes]}")


def _columns(where: str, said: Mapping[str, Any]) -> dict[str, str]:
    _only(where, said, dict.fromkeys(COLUMNS, str))
    return dict(said)


def _led(own: Own, test: TestSet, train: list[Example]) -> None:
    """Refuses a lead that no training response has: a trained model would be asked for what it never saw."""
    if test.lead and train and not any(one.output.strip().startswith(test.lead) for one in train):
        option = (test.options or ("",))[0]
        raise ValueError(
            f"{own.folder / DESCRIPTION}: [tests.{test.name}]: lead = {test.lead!r}: none of {len(train):,} training responses "
            f"begins with it: write it there ({f'{test.lead} {option}'!r}), or leave lead out"
        )


def _bare(one: Example, lead: str) -> Example:
    """With the answer alone, where a test file has the whole response, as the training file does."""
    answer = one.answer.strip()
    return replace(one, answer=answer.removeprefix(lead).strip()) if lead and answer.startswith(lead) else one


def _answered_in(values: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """The column that an answer was read from, quoted."""
    name = next((n for n in ("answer", "output") if values.get(columns.get(n, n))), "answer")
    return repr(columns.get(name, name))


def read(own: Own) -> Found:
    """Every record that is described.

    Raises:
        ValueError: what is wrong with which record of which file.
    """
    train, empty = list[Example](), 0
    for source in own.train:
        found = [example(*place, own.fields) for place in records(source, own.folder)]
        kept = [one for one in found if one.output.strip()]
        if not kept:
            empty_of = "the assistant says nothing" if any(isinstance(x, Chat) for x in found) else "'output' is empty"
            what = f"{empty_of} in all {len(found):,} records" if found else "no records"
            raise ValueError(f"{own.folder / source}: {what}: nothing to train on")
        train += kept
        empty += len(found) - len(kept)
    for test in own.tests:
        _led(own, test, train)
    tests, losses = dict[str, list[Example]](), dict[str, list[Example]]()
    for test in own.tests:
        if test.kind == TEXT:
            losses[test.name] = pieces(test.file, own.folder)
            continue
        places = list(records(test.file, own.folder))
        if not places:
            raise ValueError(f"{own.folder / test.file}: no records: leave [tests.{test.name}] out, or fill it")
        scored = test.kind not in UNSCORED
        examples = [example(*place, test.fields, test.kind if scored else None) for place in places]
        if scored:
            examples = [_bare(one, test.lead) for one in examples]
            for (where, values), one in zip(places, examples):
                try:
                    gold(families.all_tasks()[test.name], one)
                except ValueError as error:
                    raise ValueError(f"{where}: {_answered_in(values, test.fields)}: {error}") from None
        elif lacking := next((where for (where, _), e in zip(places, examples) if not e.output.strip()), None):
            raise ValueError(f"{lacking}: 'output' is empty: there is no response whose loss could be measured")
        (tests if scored else losses)[test.name] = examples
    origin = "+".join(source.removeprefix(HUB) for source in own.train) or NO_TRAINING
    return Found(origin, train, empty, tests, losses)

"""What a user says of data of their own: a file, a data set of the hub, or a folder, described by `tasks.toml` in it.

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

from smt_bench.data.family import KINDS
from smt_bench.data.own_files import FILES, HUB, is_data
from smt_bench.data.own_records import COLUMNS, DESCRIPTION
from smt_bench.data.prompts import TEMPLATES
from smt_bench.data.reading import find_file

LOSS, TEXT = "loss", "text"  # of the response, of a whole text
UNSCORED = (LOSS, TEXT)
NAME = re.compile(r"\w[\w.-]*")
TAKES = {str: "a text that is not empty", list: "a list of texts", bool: "true or false", dict: "a table"}
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

"""Names and what they stand for: methods and experiments, imported when they are asked for. Imports nothing of the project.

What is built in is a line "module:Class"; other packages add theirs under an entry-point group. What `list` shows of a class
is read from its source, since importing one brings torch with it, which takes seconds.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_MADE = object()  # no literal: only the class, imported, can tell


@dataclass(frozen=True)
class Listed:
    """An entry of a family whose members are known only when asked.

    Attributes:
        value: "module:Class"; None: it does not work.
        says: class attributes as text, so that `list` need not import it.
        why_not: the reason where it does not work.
    """

    value: str | None
    says: Mapping[str, str]
    why_not: str = ""


@dataclass(frozen=True)
class Registry(Generic[T]):
    """All methods, or all experiments.

    Attributes:
        kind: what its entries are called in messages, e.g. "method".
        group: entry points of other packages.
        own: name -> "module:Class" of what is built in.
        accept: what was loaded as an entry, with its `name`; None where it is none.
        family: more of what is built in, by name; asked for when a name is not in `own`, or all are wanted.
    """

    kind: str
    group: str
    own: Mapping[str, str]
    accept: Callable[[Any], T | None]
    family: Callable[[], Mapping[str, Listed]] = dict

    def names(self) -> list[str]:
        """Built in first, then those of other packages; without those that do not work."""
        return list(self._points())

    def idle(self) -> dict[str, str]:
        """What is there but does not work, by name, with the reason."""
        return {name: one.why_not for name, one in self.family().items() if one.value is None}

    def find(self, name: str) -> T:
        """The entry called `name`.

        Raises:
            ValueError: no such entry, the message names the nearest; or another package's cannot be used.
        """
        point = self._point(name)
        try:
            loaded = point.load()
        except (ImportError, AttributeError) as error:
            if point.dist is None and name in self._built_in():
                raise
            raise ValueError(
                f"{self.kind} {name!r} ({point.value}) cannot be imported ({error}): mend or remove {_package(point)}"
            ) from error
        found: Any = self.accept(loaded)
        if found is None:
            raise ValueError(f"{self.kind} {name!r}: {point.value} is no {self.kind}: mend or remove {_package(point)}")
        if found.name != name:
            raise ValueError(f"{self.kind} {name!r}: {point.value} calls itself {found.name!r}: give both one name")
        return found  # type: ignore[no-any-return]

    def usable(self) -> tuple[dict[str, T], list[str]]:
        """Every entry that can be used, by name; and what is wrong with the others, which are of other packages."""
        found, faults = {}, []
        for name in self.names():
            try:
                found[name] = self.find(name)
            except ValueError as error:
                faults.append(str(error))
        return found, faults

    def words(self, name: str, *about: str) -> dict[str, str]:
        """What an entry says of itself in the class attributes `about`, without importing it where its source tells.

        Raises:
            ValueError: as `find`.
        """
        point = self._point(name)
        if name not in self.own and (listed := self.family().get(name)) and all(word in listed.says for word in about):
            return {word: listed.says[word] for word in about}
        found = {word: _said(point.module, point.attr, word) for word in about}
        plain = {word: text for word, text in found.items() if text}
        if len(plain) == len(about):
            return plain
        entry = self.find(name)
        return {word: str(getattr(entry, word)) for word in about}

    def stated(self, name: str, *about: str) -> dict[str, Any] | None:
        """The values of class attributes of what is built in, without importing it; None unless its class states them all."""
        if name not in self.own:
            return None
        point = self._own(name)
        own = _class(point.module, point.attr)
        found = {} if own is None else {word: v for word in about if (v := _literal(own, word)) is not _MADE}
        return found if len(found) == len(about) else None

    def _point(self, name: str) -> EntryPoint:
        if name in self.own:
            return self._own(name)  # without reading every installed package's entry points, which takes 15 ms
        points = self._points()
        if name not in points and (reason := self.idle().get(name)):
            raise ValueError(f"{self.kind} {name!r} does not work: {reason}: choose another, see `list {self.kind}s`")
        if name not in points:
            near = difflib.get_close_matches(name, points, n=1, cutoff=0.5)
            plain = [known for known in points if ":" not in known]  # the families' are many
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(plain)}"
            raise ValueError(f"unknown {self.kind} {name!r}: {hint}")
        return points[name]

    def _points(self) -> dict[str, EntryPoint]:
        found = {name: EntryPoint(name, value, self.group) for name, value in self._built_in().items()}
        for point in _installed(self.group, *sys.path):
            found.setdefault(point.name, point)
        return found

    def _built_in(self) -> dict[str, str]:
        return {**self.own, **{name: one.value for name, one in self.family().items() if one.value is not None}}

    def _own(self, name: str) -> EntryPoint:
        return EntryPoint(name, self.own[name], self.group)


@cache
def _installed(group: str, *path: str) -> tuple[EntryPoint, ...]:
    """Other packages' entries, read once for a `sys.path`: every name that is not built in asks, at 15 ms a look."""
    return tuple(entry_points(group=group))


def _package(point: EntryPoint) -> str:
    return "the package that adds it" if point.dist is None else f"the package {point.dist.name} {point.dist.version}"


def _said(module: str, name: str, word: str) -> str | None:
    """The plain string that a class, or a base of it, gives a class attribute; "" where it is no plain one, None where none."""
    found = _class(module, name)
    if found is None:
        return None
    value = _value(found, word)
    if value is not None:
        return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
    tree = _source(module)
    imported = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    origin = {alias.asname or alias.name: (str(node.module), alias.name) for node in imported for alias in node.names}
    bases = [base.id for base in found.bases if isinstance(base, ast.Name)]
    texts = (_said(*origin.get(base, (module, base)), word) for base in bases)
    return next((text for text in texts if text is not None), None)


def _class(module: str, name: str) -> ast.ClassDef | None:
    return next((node for node in _source(module).body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _value(found: ast.ClassDef, word: str) -> ast.expr | None:
    """What a class itself gives a class attribute."""
    for node in found.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=target)], value=value)
                | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value)
            ) if target == word:
                return value
    return None


def _literal(found: ast.ClassDef, word: str) -> Any:
    """The same as a value; `_MADE` where it is none that stands there."""
    value = _value(found, word)
    try:
        return _MADE if value is None else ast.literal_eval(value)
    except ValueError:
        return _MADE


@cache
def _source(module: str) -> ast.Module:
    """A module's syntax tree, empty where there is no source; imports the packages around it only."""
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        return ast.Module([], [])
    return ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8"))

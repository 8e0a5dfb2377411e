"""What a record has to look like: a small schema, and what does not match it, in words.

A shape is a type or a tuple of types; `Each(types)`: a list of such; `Named(shape)`: a dict with any names; a dict of shapes: a
dict with these names, those in `Maybe` optional. An unknown name raises `Unknown`: a newer version may have put it there. What a
run may hold follows from the annotations of its dataclasses.
"""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from smt_bench.records.runs import Measurement, Run

NUMBER = (int, float)
OPTIONAL = (int, float, types.NoneType)
TEXT = (str, types.NoneType)
_PLAIN = (str, int)  # types whose values hold nothing that could be wrong


class Unknown(Exception):
    """A name that this version does not know."""


@dataclass(frozen=True)
class Each:
    """A list whose elements all are of one type, or of some."""

    shape: type | tuple[type, ...]


@dataclass(frozen=True)
class Named:
    """A dict of any names whose values all have one shape."""

    shape: Any


@dataclass(frozen=True)
class Maybe:
    """A value that need not be there."""

    shape: Any


TASK = {
    "n": int,
    "accuracy": NUMBER,
    "stderr": NUMBER,
    "format_failures": int,
    "format_failure_rate": NUMBER,
    "protocol": str,
    "examples": {
        "gold": Each((str, int, float)),
        "prediction": Each((str, *OPTIONAL)),
        "correct": Each(int),
        "parsed": Each(int),
        "loglik": Each(OPTIONAL),
        "cluster": Maybe(Each(int)),
        "confidence": Maybe(Each(OPTIONAL)),
        "brier": Maybe(Each(OPTIONAL)),
        "score": Maybe(Each(NUMBER)),
    },
}
# A record that says "done" holds its question's SECTIONS; another one what was known when it ended.
RECORD = {
    "schema": int,
    "key": str,
    "run": dict,
    "status": str,
    "message": TEXT,
    "step": Maybe((int, types.NoneType)),
    "started": Maybe(str),
    "finished": Maybe(str),
    "environment": Maybe(dict),
    "seconds": Maybe(Named(NUMBER)),
    "memory_bytes": Maybe(Named(int)),
    "overlap": Maybe({"rule": str, "tests": Named(int), "repeated": Maybe(int)}),
    "cut": Maybe(
        {
            "training": (dict, types.NoneType),
            "heldout": Named(int),
            "prompts": Named(int),
            "losses": Maybe(Named(Named(int))),
        }
    ),
    "recipe": Maybe({"name": str, "changed": dict, "preset": Maybe(str), "tuning": Maybe(str)}),
    "adapter": Maybe({"format": str, "bytes": int, "numbers": int}),
    "composition": Maybe(
        {"cosine": OPTIONAL, "numbers": Each(int), "shared": int, "by_chance": NUMBER, "opposed": int}
    ),
    "layers": Maybe({"experts": int, "lacking": Each(str), "chosen": Maybe(Each(str))}),
    "merge": Maybe({"difference": OPTIONAL, "tolerance": NUMBER, "unmerged": Maybe(str)}),
    "pace": Maybe({"unmerged": OPTIONAL, "merged": OPTIONAL}),
    "capacity": Maybe({"unit": str, "units": int, "trainable": int, "total": int, "fraction": NUMBER}),
    "training": Maybe({"losses": Each(OPTIONAL), "grad_norms": Each(OPTIONAL), "tokens": int}),
    "resumed_at_steps": Maybe(Each(int)),
    "probes": Maybe(dict),
    "method": Maybe(dict),
    "heldout": Maybe(
        {
            "nll": OPTIONAL,
            "examples": {
                "loglik": Each(OPTIONAL),
                "tokens": Each(int),
                "cluster": Maybe(Each(int)),
                "tune": Maybe(Each(int)),
            },
        }
    ),
    "selection": Maybe({"steps": Each(int), "nll": Each(OPTIONAL), "kept": int}),
    "evaluation": Maybe(Named(TASK)),
    "losses": Maybe(
        Named(
            {"nll": OPTIONAL, "examples": {"loglik": Each(OPTIONAL), "tokens": Each(int), "cluster": Maybe(Each(int))}}
        )
    ),
    "result": Maybe(dict),
    "traceback": Maybe(Each(str)),
}


@dataclass(frozen=True)
class _Wrong:
    """What does not match, and the way there from outside in; `newer`: a name that no shape has."""

    what: str
    way: tuple[str, ...] = ()
    newer: bool = False

    def below(self, name: str) -> _Wrong:
        return _Wrong(self.what, (name, *self.way), self.newer)


def mismatch(value: Any, shape: Any, path: str = "") -> str | None:
    """Where a value does not have a shape, in words; None where it has.

    Raises:
        Unknown: a name that no shape has.
    """
    wrong = _wrong(value, shape)
    if wrong is None:
        return None
    where = ".".join((path, *wrong.way) if path else wrong.way)
    if wrong.newer:
        raise Unknown(where)
    return f"{where or 'it'} {wrong.what}"


def _wrong(value: Any, shape: Any) -> _Wrong | None:
    """Of tens of thousands of records with a hundred values each; where a value stands is only told where it is wrong."""
    kind, of = type(value), type(shape)
    if of is tuple or of is type:
        if kind is not shape and not (of is tuple and kind in shape):  # True is an int only to isinstance
            return _Wrong(f"is {_words(kind)}")
        # 1e999 reads as infinity.
        finite = math.isfinite(value) if kind is float else shape is not dict or _all_finite(value)
        return None if finite else _Wrong("holds a number that is none")
    if of is Each:
        return _of_list(value, shape.shape) if kind is list else _Wrong("is no list")
    if kind is not dict:
        return _Wrong("is no object")
    if of is dict:
        return _of_names(value, shape)
    return next((found.below(k) for k, v in value.items() if (found := _wrong(v, shape.shape))), None)


def _of_list(value: list[Any], allowed: type | tuple[type, ...]) -> _Wrong | None:
    kinds = set(map(type, value))  # of hundreds of numbers, at the speed of C
    if wrong := kinds.difference(allowed if type(allowed) is tuple else (allowed,)):
        return _Wrong(f"holds {_words(wrong.pop())}")
    if float not in kinds:
        return None
    numbers = value if len(kinds) == 1 else (v for v in value if type(v) is float)
    return None if math.isfinite(sum(numbers)) else _Wrong("holds a number that is none")


def _all_finite(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _of_names(value: dict[str, Any], shape: dict[str, Any]) -> _Wrong | None:
    if not value.keys() <= shape.keys():
        return _Wrong("", (next(name for name in value if name not in shape),), newer=True)
    for name, inner in shape.items():
        if name in value:
            part = value[name]
            if type(part) is inner and inner in _PLAIN:
                continue
            if found := _wrong(part, inner.shape if type(inner) is Maybe else inner):
                return found.below(name)
        elif type(inner) is not Maybe:
            return _Wrong("is missing", (name,))
    return None


def _words(kind: type) -> str:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}
    return {**names, list: "a list", types.NoneType: "null"}.get(kind, kind.__name__)


@cache
def question_shape(measured: bool) -> dict[str, Any]:
    """The shape of a record's `run`."""
    shape: dict[str, Any] = _shape(Measurement if measured else Run)
    return shape


def _shape(kind: Any) -> Any:
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return {
            f.name: Maybe(_shape(hints[f.name]))
            if f.default is not MISSING or f.default_factory is not MISSING
            else _shape(hints[f.name])
            for f in fields(kind)
        }
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return Each(_shape(inner[0]))
    if typing.get_origin(kind) is dict:
        return dict if inner[1] is Any else Named(_shape(inner[1]))
    if inner:  # a union
        return tuple(t for part in inner for t in (NUMBER if part is float else (part,)))
    return NUMBER if kind is float else kind

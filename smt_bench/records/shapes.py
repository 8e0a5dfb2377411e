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
    "cut": Maybe({"training": (dict, types.NoneType), "heldout": Named(int), "prompts": Named(int)}),
    "merge": Maybe({"difference": OPTIONAL, "tolerance": NUMBER, "unmerged": Maybe(str)}),
    "capacity": Maybe({"unit": str, "units": int, "trainable": int, "total": int, "fraction": NUMBER}),
    "training": Maybe({"losses": Each(OPTIONAL), "grad_norms": Each(OPTIONAL), "tokens": int}),
    "resumed_at_steps": Maybe(Each(int)),
    "probes": Maybe(dict),
    "method": Maybe(dict),
    "heldout": Maybe({"nll": OPTIONAL, "examples": {"loglik": Each(OPTIONAL), "tokens": Each(int)}}),
    "evaluation": Maybe(Named(TASK)),
    "result": Maybe(dict),
    "traceback": Maybe(Each(str)),
}


def mismatch(value: Any, shape: Any, path: str = "") -> str | None:
    """Where a value does not have a shape, in words; None where it has.

    Raises:
        Unknown: a name that no shape has.
    """
    if isinstance(shape, dict):
        return _of_names(value, shape, path)
    if isinstance(shape, Named):
        if type(value) is not dict:
            return f"{path} is no object"
        return next((found for k, v in value.items() if (found := mismatch(v, shape.shape, f"{path}.{k}"))), None)
    if isinstance(shape, Each):
        if type(value) is not list:
            return f"{path} is no list"
        allowed = shape.shape if isinstance(shape.shape, tuple) else (shape.shape,)
        kinds = set(map(type, value))  # of hundreds of numbers, at the speed of C
        if wrong := kinds.difference(allowed):
            return f"{path} holds {_words(wrong.pop())}"
        numbers = value if kinds == {float} else (v for v in value if type(v) is float)
        finite = float not in kinds or math.isfinite(sum(numbers))
        return None if finite else f"{path} holds a number that is none"
    allowed = shape if isinstance(shape, tuple) else (shape,)
    if type(value) not in allowed:  # True is an int only to isinstance
        return f"{path} is {_words(type(value))}"
    # 1e999 reads as infinity.
    finite = math.isfinite(value) if type(value) is float else shape is not dict or _all_finite(value)
    return None if finite else f"{path} holds a number that is none"


def _all_finite(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _of_names(value: Any, shape: dict[str, Any], path: str) -> str | None:
    if type(value) is not dict:
        return f"{path or 'it'} is no object"
    unknown = [name for name in value if name not in shape]
    if unknown:
        raise Unknown(f"{path}.{unknown[0]}".lstrip("."))
    for name, inner in shape.items():
        where = f"{path}.{name}".lstrip(".")
        if isinstance(inner, Maybe):
            if name not in value:
                continue
            inner = inner.shape
        elif name not in value:
            return f"{where} is missing"
        found = mismatch(value[name], inner, where)
        if found:
            return found
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
            f.name: Maybe(_shape(hints[f.name])) if f.default is not MISSING else _shape(hints[f.name])
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

"""Settings have types: a field's annotation and range give every value one canonical form, or refuse it.

    @dataclass(frozen=True)
    class MySettings(MethodConfig):
        rank: int = setting(8, at_least=1)
        dropout: float = setting(0.0, at_least=0, below=1)
        mode: Literal["fast", "exact"] = "fast"

The canonical form is what a run's key is made of: 1 and 1.0 are one value, and true is no number. Annotations may be bool, int,
float, str, Literal, tuples and lists of these, dicts by name, unions of these (`float | None`), Any for plain JSON, and object
for what is checked elsewhere.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 3


@dataclass(frozen=True)
class Limits:
    """Where a field's numbers have to lie, which of its texts are known (None: anywhere, any), and `once`: no number twice."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None
    once: bool = False

    def hold(self, number: float) -> bool:
        """Whether a number lies inside."""
        low = (self.at_least is None or number >= self.at_least) and (self.above is None or number > self.above)
        high = (self.at_most is None or number <= self.at_most) and (self.below is None or number < self.below)
        return low and high

    def words(self) -> str:
        """The range, e.g. ", at least 0, below 1"."""
        named = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        found = "".join(f", {word} {value:,}" for word, value in named.items() if value is not None)
        return found + (", each once" if self.once else "")


def setting(
    default: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    choices: Iterable[str] | None = None,
    once: bool = False,
) -> Any:
    """A dataclass field with a range for its number (or its numbers, in a tuple or dict), or with the texts it may be.

    With `once`, several numbers must differ: two equal seeds would be taken for two runs.
    """
    known = None if choices is None else tuple(choices)
    return field(default=default, metadata={"limits": Limits(at_least, above, at_most, below, known, once)})


class Unfit(Exception):
    """A value that a field cannot take; `value` is the part of it that is at fault."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def make_canonical(made: Any, told: Callable[[str, Any, Any], str] | None = None) -> None:
    """Checks every field of a frozen dataclass and puts its canonical value in its place.

    Args:
        made: an instance; called in its `__post_init__`.
        told: what a refusal calls the field, from its name, its value and the part at fault; None: "name=value".

    Raises:
        ValueError: what, the value, the remedy.
    """
    kinds = get_type_hints(type(made))
    for one in fields(made):
        value, limits = getattr(made, one.name), one.metadata.get("limits", Limits())
        try:
            object.__setattr__(made, one.name, canonical(kinds[one.name], value, limits))
        except Unfit as unfit:
            kind = kinds[one.name]
            if told is None:
                what = f"{one.name}={short(value)}"
            else:  # an option that may be left out is not called "null" by anybody
                what, kind = told(one.name, value, unfit.value), _given(kind)
            raise ValueError(f"{what}: choose {_words(kind, limits)}") from None


def _given(kind: Any) -> Any:
    """An annotation without None."""
    parts = [part for part in get_args(kind) if part is not NoneType]
    return Union[tuple(parts)] if get_origin(kind) in (Union, UnionType) and parts else kind  # noqa: UP007 - of several


def short(value: Any) -> str:
    """A value for a message: never long, however large or deep it is."""
    return _SHORT.repr(value)


def canonical(kind: Any, value: Any, limits: Limits) -> Any:
    """The one form of a value that a field annotated with `kind` keeps.

    Raises:
        Unfit: it cannot be such a value.
        ValueError: `kind` is an annotation that no plain JSON value has.
    """
    origin, of = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _first(of, value, limits)
    if origin is Literal:
        found = [known for known in of if type(known) is type(value) and known == value]
        return found[0] if found else _refuse(value)
    if origin is tuple and of[1:] != (...,):
        if not isinstance(value, (list, tuple)) or len(value) != len(of):
            raise Unfit(value)
        return tuple(canonical(part, one, limits) for part, one in zip(of, value))
    if origin in (tuple, list, Sequence):
        return _several(of[0], value, limits)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise Unfit(value)
        return {canonical(of[0], k, Limits()): canonical(of[1], v, limits) for k, v in value.items()}
    if kind not in _PLAIN:
        raise ValueError(f"a setting of type {kind}: only plain JSON values can be in a key, see methods/settings.py")
    return _PLAIN[kind](value, limits)


def _first(kinds: Iterable[Any], value: Any, limits: Limits) -> Any:
    unfit = Unfit(value)
    for kind in kinds:
        try:
            return canonical(kind, value, limits)
        except Unfit as error:
            unfit = error
    raise unfit


def _several(kind: Any, value: Any, limits: Limits) -> tuple[Any, ...]:
    """As a tuple; names in one text are separated by commas, as on a command line, and stand once."""
    if isinstance(value, str) and kind is str:
        value = [name.strip() for name in value.split(",")]
    if not isinstance(value, (list, tuple)):
        raise Unfit(value)
    found = tuple(canonical(kind, one, limits) for one in value)
    if kind is str:
        if "" in found:
            raise Unfit(value)
        return tuple(dict.fromkeys(found))
    for position, one in enumerate(found):
        if limits.once and one in found[:position]:
            raise Unfit(one)
    return found


def _refuse(value: Any) -> Any:
    raise Unfit(value)


def _bool(value: Any, _limits: Limits) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):  # Python's own way of writing them
        return value.lower() == "true"
    return value if isinstance(value, bool) else _refuse(value)


def _int(value: Any, limits: Limits) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (isinstance(value, float) and value.is_integer())) or not limits.hold(value):
        raise Unfit(value)
    return int(value)


def _float(value: Any, limits: Limits) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unfit(value)
    try:
        number = float(value) + 0.0  # -0.0 is 0.0
    except OverflowError:
        raise Unfit(value) from None
    return number if math.isfinite(number) and limits.hold(number) else _refuse(value)


def _str(value: Any, limits: Limits) -> str:
    if not isinstance(value, str) or (limits.choices is not None and value not in limits.choices):
        raise Unfit(value)
    return value


def _json(value: Any, _limits: Limits) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        raise Unfit(value) from None


def _none(value: Any, _limits: Limits) -> None:
    if value is not None:
        raise Unfit(value)


def _whatever(value: Any, _limits: Limits) -> Any:
    return value


_PLAIN: dict[Any, Callable[[Any, Limits], Any]] = {
    bool: _bool, int: _int, float: _float, str: _str, NoneType: _none, Any: _json, object: _whatever,
}  # fmt: skip
_NAMES = {bool: "true or false", NoneType: "null", Any: "plain JSON"}


def _words(kind: Any, limits: Limits) -> str:
    """What a field takes, for a message, e.g. "a whole number, at least 1"."""
    origin, of = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_words(part, limits) for part in of)
    if origin is Literal:
        return " or ".join(json.dumps(known).strip('"') for known in of)
    if origin is tuple and of[1:] != (...,):
        return f"a list of {len(of)}: {', '.join(_words(part, limits) for part in of)}"
    if origin in (tuple, list, Sequence):
        return f"one or several, each {_words(of[0], limits)}"
    if origin in (dict, Mapping):
        return f"names, each with {_words(of[1], limits)}"
    if kind is str and limits.choices is not None:
        return f"from {', '.join(limits.choices)}"
    if kind in (int, float):
        return f"a {'whole ' if kind is int else ''}number{limits.words()}"
    return _NAMES.get(kind, "a text")

"""The fields of a peft config as settings: which there are, what type each has, and which are not the user's."""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from smt_bench.methods.peft_tuners.knobs import KNOBS, OURS, OWN_STARTS, SAID_AS
from smt_bench.methods.settings import short


def config_class(tuner: str) -> Any:
    """The dataclass of peft."""
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(tuner.upper())]


def default(tuner: str, name: str) -> Any:
    """Peft's own default of a field."""
    one = next(one for one in fields(config_class(tuner)) if one.name == name)
    return one.default_factory() if one.default_factory is not MISSING else one.default


@cache
def kinds(tuner: str) -> dict[str, Any]:
    """The type of every field that can be set, by its name."""
    theirs = config_class(tuner)
    hints = get_type_hints(theirs)
    refused = {*OURS, *SAID_AS, *KNOBS[tuner].refused, KNOBS[tuner].field}
    return {one.name: hints[one.name] for one in fields(theirs) if one.name not in refused}


def check_known(tuner: str, name: str, also: Iterable[str], ours: Mapping[str, str]) -> None:
    """Refuses a name that is no field of the tuner's config, or not the user's to set.

    Args:
        tuner: its name in peft, lower case.
        name: the setting.
        also: settings of our own, for the message.
        ours: more fields that are decided here, and why.

    Raises:
        ValueError: the name, why, and what can be set.
    """
    knob = KNOBS[tuner]
    if name == knob.field:
        raise ValueError(f"{name}: the trainable fraction decides it: leave it out, and choose with --fractions")
    if name in {one.name for one in fields(config_class(tuner))}:
        if name in SAID_AS:
            raise ValueError(f"{name}: the setting is called {SAID_AS[name]} here: set that")
        if why := {**OURS, **knob.refused, **ours}.get(name):
            raise ValueError(f"{name}: {why}: leave it out")
        return
    there = [*also, *(known for known in kinds(tuner) if known not in ours)]
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
    raise ValueError(
        f"{name}: unknown setting: "
        + (f"did you mean {near[0]}?" if near else f"choose from {', '.join(sorted(there))}")
    )


def canonical(tuner: str, name: str, value: Any) -> Any:
    """The one form of a field's value.

    Raises:
        ValueError: its type does not fit, or it cannot work here.
    """
    kind = kinds(tuner)[name]
    try:
        found = _fit(kind, value)
    except _Unfit:
        raise ValueError(f"{name}={short(value)}: choose {_words(kind)}") from None
    for (field, prefix), why in KNOBS[tuner].refused_values.items():
        if field == name and found == prefix:
            raise ValueError(f"{name}={short(value)}: {why}: choose another")
    return found


def made(tuner: str, values: Mapping[str, Any]) -> Any:
    """The config of peft; what is a config within it is made of its own names and values.

    Raises:
        Exception: whatever peft raises where it refuses a value.
    """
    found = {**KNOBS[tuner].stand_in, **values}
    for name in values:
        of = get_args(kinds(tuner).get(name))
        inner: list[Any] = [kind for kind in of if is_dataclass(kind)]
        if (
            inner
            and isinstance(found[name], Mapping)
            and not any(kind is dict or get_origin(kind) is dict for kind in of)
        ):
            found[name] = inner[0](**found[name])
    if found.get("init_lora_weights") in OWN_STARTS:  # carried out here, see `starts`
        found["init_lora_weights"] = True
    return config_class(tuner)(task_type="CAUSAL_LM", **found)


def check_together(tuner: str, values: Mapping[str, Any]) -> None:
    """Lets peft look at all of them.

    Raises:
        ValueError: it refuses them, in its words.
    """
    try:
        made(tuner, values)
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        named = next((name for name in values if name in str(error)), next(iter(values), "options"))
        line = " ".join(str(error).split())
        raise ValueError(f"{named}={short(values.get(named))}: peft refuses it ({line}): choose another") from None


class _Unfit(Exception):
    pass


def _fit(kind: Any, value: Any) -> Any:
    """A plain JSON value as the annotation has it: 1.0 is 1 for an int, 1 is 1.0 for a float."""
    origin, of = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _first(of, value)
    if origin is Literal:
        for known in of:
            # "pissa_niter_[number of iters]" stands for any number.
            start, bracket, _ = known.partition("[") if isinstance(known, str) else ("", "", "")
            if (
                known == value
                and type(known) is type(value)
                or (bracket and isinstance(value, str) and value.startswith(start) and value[len(start) :].isdigit())
            ):
                return value
        raise _Unfit
    if origin in (list, tuple) or kind is list:
        if not isinstance(value, (list, tuple)):
            raise _Unfit
        if origin is tuple and len(of) != len(value):
            raise _Unfit
        return [_fit(k, v) for k, v in zip(of if origin is tuple else [*(of or (Any,))] * len(value), value)]
    if origin is dict or kind is dict:
        if not isinstance(value, Mapping):
            raise _Unfit
        return {str(k): _fit(of[1] if of else Any, v) for k, v in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        if value not in [one.value for one in kind]:
            raise _Unfit
        return value
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
        hints = get_type_hints(kind)
        if not set(value) <= set(hints):
            raise _Unfit
        return {name: _fit(hints[name], one) for name, one in value.items()}
    raise _Unfit


def _first(of: Iterable[Any], value: Any) -> Any:
    # Whole numbers before others, so that 1 stays 1 where both will do.
    for kind in sorted(of, key=lambda k: (k is float, k is str)):
        try:
            return _fit(kind, value)
        except _Unfit:
            continue
    raise _Unfit


def _bool(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _Unfit
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or int(value) != value:
        raise _Unfit
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _Unfit
    return float(value) + 0.0  # -0.0 is 0.0


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit
    return value


def _none(value: Any) -> None:
    if value is not None:
        raise _Unfit


_PLAIN: dict[Any, Any] = {
    bool: _bool, int: _int, float: _float, str: _str, type(None): _none, Any: lambda value: value,
}  # fmt: skip


def _words(kind: Any) -> str:
    """What a field takes, for a message."""
    origin, of = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in of))
    if origin is Literal:
        return " or ".join(str(known) for known in of)
    if origin in (list, tuple) or kind is list:
        return "a list"
    if origin is dict or kind is dict:
        return "names with values"
    if is_dataclass(kind) and isinstance(kind, type):
        return f"names with values, of {', '.join(get_type_hints(kind))}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(str(one.value) for one in kind)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}
    return names.get(kind, "what no plain value is: leave it out")

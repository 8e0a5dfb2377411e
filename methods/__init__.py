"""The methods, behind one contract (`methods.base`). A new method is one file, its test and one line here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from smt_bench.methods.base import Method
from smt_bench.methods.full import Base, Full
from smt_bench.methods.lora import Dora, Lora
from smt_bench.methods.smt.method import Smt
from smt_bench.methods.spiel.method import Spiel

REGISTRY: dict[str, type[Method]] = {m.name: m for m in (Base, Full, Smt, Spiel, Lora, Dora)}


def all_methods() -> dict[str, type[Method]]:
    """Built-in methods and those that other packages register under `smt_bench.methods`."""
    found = dict(REGISTRY)
    for point in entry_points(group="smt_bench.methods"):
        found.setdefault(point.name, point.load())
    return found


def find(name: str) -> type[Method]:
    """The method called `name`.

    Raises:
        ValueError: no such method; the message names the nearest.
    """
    if name in REGISTRY:
        return REGISTRY[name]  # without reading every installed package's entry points, which takes 15 ms
    found = all_methods()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(found)}"
        raise ValueError(f"unknown method {name!r}: {hint}")
    return found[name]


def build(name: str, config: Mapping[str, Any], fraction: float | None, seed: int, steps: int) -> Method:
    """One method for one run, from plain JSON values.

    Raises:
        ValueError: unknown method or setting, or a setting that is wrong for every model.
    """
    method = find(name)
    return method(method.Config.from_dict(config), fraction, seed, steps)

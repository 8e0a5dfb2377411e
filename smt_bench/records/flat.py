"""Records as one flat row each, for other tools: every setting and every number that is one per run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from smt_bench.records import heldout
from smt_bench.records.trust import Record

LISTS = frozenset(
    {"examples", "losses", "grad_norms", "blocks", "traceback", "sha256"}
)  # one value per step or example


def row(record: Record) -> dict[str, Any]:
    """Dotted names and plain values; lists as JSON text. What a record does not have is not there."""
    made = flat({name: part for name, part in record.items() if name != "result"})
    if "kind" not in record["run"]:
        parts: tuple[heldout.Part, ...] = ("tune", "report")
        made |= {f"heldout.nll_{part}": heldout.nll(record, part) for part in parts}
    return made


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values by dotted names, without what is None or has one value per step or example."""
    made: dict[str, Any] = {}
    _add(made, "", values)
    return made


def _add(made: dict[str, Any], prefix: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name in LISTS:
            continue
        if isinstance(value, dict):
            _add(made, f"{prefix}{name}.", value)
        elif isinstance(value, list | tuple):
            made[prefix + name] = json.dumps(value)
        elif value is not None:
            made[prefix + name] = value


def columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns of one type each: whole numbers beside others become floats, what else is mixed becomes JSON text."""
    kept = list(rows)
    names = list(dict.fromkeys(name for row in kept for name in row))
    made = {}
    for name in names:
        values = [row.get(name) for row in kept]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:
            values = [value if value is None else json.dumps(value) for value in values]
        made[name] = values
    return made

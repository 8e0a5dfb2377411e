"""What the page shows of a run, small: curves of at most some points, answers as letters, blocks by layer."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from smt_bench.records.partial import Pool, shrunk
from smt_bench.records.store import Record

SHOWN = frozenset({
    "schema", "key", "run", "status", "message", "step", "started", "finished", "environment", "seconds", "memory_bytes",
    "capacity", "training", "method", "heldout", "evaluation", "sha256", "probes",
})  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
LARGE = 4000  # characters of another section, beyond which only its size is said
_LAYER = re.compile(r"(?:^|\.)(\d+)\.(.+)$")


def both(record: Record, points: int, most: int, pool: Pool) -> tuple[Record, dict[str, Any]]:
    """What tables read of a record, and what its page shows.

    Args:
        record: as read.
        points: of a curve at most.
        most: answers and blocks that are kept one by one.
        pool: see `records.partial`.
    """
    return shrunk(record, pool), details(record, points, most)


def details(record: Record, points: int, most: int) -> dict[str, Any]:
    """A record as its page shows it; plain JSON values."""
    made: dict[str, Any] = {
        name: record[name] for name in ("key", "run", "status", "started", "environment") if name in record
    }
    made |= {name: record[name] for name in ("message", "step", "finished") if record.get(name) is not None}
    for name in ("seconds", "memory_bytes", "capacity"):
        if record.get(name):
            made[name] = record[name]
    training = record.get("training") or {}
    if training.get("losses"):
        made["losses"] = thin(training["losses"], points)
        if training.get("grad_norms"):
            made["norms"] = thin(training["grad_norms"], points)
        made["tokens"] = training.get("tokens")
    method = record.get("method") or {}
    blocks = method.get("blocks")
    made["method"] = {k: v for k, v in method.items() if k != "blocks" and len(json.dumps(v)) < LARGE}
    if blocks:
        made["blocks"] = by_layer(blocks)
        if sum(map(len, blocks.values())) <= most:
            made["positions"] = {
                name: [n for place in places for n in place] for name, places in blocks.items() if places
            }
    if (record.get("heldout") or {}).get("nll") is not None:
        made["heldout"] = {"nll": record["heldout"]["nll"], "examples": len(record["heldout"]["examples"]["tokens"])}
    made["tests"] = {task: _answers(result, most) for task, result in (record.get("evaluation") or {}).items()}
    others = {name: value for name, value in record.items() if name not in SHOWN}
    made["others"] = {n: v for n, v in others.items() if v is not None and len(json.dumps(v, default=str)) < LARGE}
    return made


def thin(values: Sequence[float | None], points: int) -> list[list[float]]:
    """A curve of at most so many points: [step, mean] of steps that follow each other; without those that are no number."""
    wide = max(1, math.ceil(len(values) / points))
    made = []
    for start in range(0, len(values), wide):
        part = [v for v in values[start : start + wide] if v is not None and math.isfinite(v)]
        if part:
            middle = start + 1 + (min(wide, len(values) - start) - 1) / 2
            made.append([middle, float(f"{sum(part) / len(part):.4g}")])
    return made


def by_layer(blocks: dict[str, list[Any]]) -> list[list[Any]]:
    """Blocks as [layer, matrix, how many]; the layer is None where a name has no number."""
    counts: Counter[tuple[int | None, str]] = Counter()
    for name, places in blocks.items():
        found = _LAYER.search(name)
        layer, matrix = (int(found[1]), found[2]) if found else (None, name)
        counts[layer, matrix.rpartition(".")[2] or matrix] += len(places)
    return [[layer, matrix, count] for (layer, matrix), count in counts.items()]


def _answers(result: dict[str, Any], most: int) -> dict[str, Any]:
    made: dict[str, Any] = {name: result[name] for name in ("n", "accuracy", "format_failures") if name in result}
    columns = result.get("examples") or {}
    gold, said = columns.get("gold"), columns.get("prediction")
    if not gold or not said or not most:
        return made
    shown = min(len(said), most)
    words = sorted({str(w) for w in (*gold, *said)})
    made["right"] = "".join("10"[not value] for value in columns["correct"][:shown])
    if len(words) <= len(LETTERS):
        letter = dict(zip(words, LETTERS))
        made |= {"words": words, "gold": "".join(letter[str(w)] for w in gold[:shown])}
        made["said"] = "".join(letter[str(w)] for w in said[:shown])
    else:
        made |= {"gold": [str(w)[:80] for w in gold[:shown]], "said": [str(w)[:80] for w in said[:shown]]}
    return made

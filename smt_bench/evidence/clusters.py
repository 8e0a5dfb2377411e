"""What the examples of a record go back to: as it says itself, or for records from before schema 3 as the embedded data say.

Elsewhere old records' examples cannot be told apart by source: then every example stands for itself, and tables say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from smt_bench.data import families
from smt_bench.data.datasets import DataSet, content_hash
from smt_bench.data.loading import load
from smt_bench.data.sources import sources
from smt_bench.records.store import Record


def of_task(record: Record, task: str) -> Sequence[int] | None:
    """The sources of a task's test examples; None: unknown."""
    result = record["evaluation"][task]
    said = result["examples"].get("cluster")
    if said is not None:
        return said  # type: ignore[no-any-return]
    return _embedded_tests(
        record["run"]["data"]["family"], task, record["run"]["evaluation"]["tasks"][task], result["n"]
    )


def of_heldout(record: Record) -> Sequence[int] | None:
    """The sources of the held-out examples; None: unknown."""
    said = record["heldout"]["examples"].get("cluster")
    if said is not None:
        return said  # type: ignore[no-any-return]
    data: dict[str, Any] = record["run"]["data"]
    return _embedded_heldout(data["family"], data["train"], data["train_sha256"], data["heldout"])


@cache
def _embedded_tests(family: str, task: str, digest: str, count: int) -> list[int] | None:
    found = _embedded(family, 0, count)
    examples = [] if found is None else found.tests.get(task, [])
    return sources(families.known(family), examples) if examples and content_hash(examples) == digest else None


@cache
def _embedded_heldout(family: str, train: str, digest: str, count: int) -> list[int] | None:
    known = families.known(family)
    if known is None or known.embedded is None or known.embedded.origin != train:
        return None
    found = _embedded(family, count, None)
    if found is None or found.train_sha256 != digest or len(found.heldout) != count:
        return None
    return sources(known, found.heldout)


@cache
def _embedded(family: str, heldout: int, limit: int | None) -> DataSet | None:
    """The family's embedded data; None where it has none, or none like that."""
    known = families.known(family)
    if known is None or known.embedded is None:
        return None
    try:
        return load(None, family, [], heldout, limit)
    except ValueError:
        return None

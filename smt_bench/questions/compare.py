"""Two results folders, question by question: the same answers, as good as the same, others, or none.

A question is compared without its machine, on which measurements depend: their times and bytes are the machine's own, so that two
of them are told side by side and decide nothing. All others have a key that no machine is in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench.questions import measured
from smt_bench.questions.agreement import Point, compare
from smt_bench.records.index import describe
from smt_bench.records.runs import ANY_MACHINE, digest, nameless, question
from smt_bench.records.store import Record, Store

IDENTICAL, EQUIVALENT, DIFFERS, MISSING, MEASURED = "identical", "equivalent", "differs", "missing", "measured"


@dataclass(frozen=True)
class Pair:
    """One question.

    Attributes:
        name: hash of the question without its machine.
        what: the question, in a few words.
        keys: of its records in both folders; None where there is none.
        outcome: `IDENTICAL` bit by bit, `EQUIVALENT` within the tolerances of `questions.agreement` and
            `questions.measured`, `DIFFERS`, `MISSING` in one folder, or `MEASURED`, on machines of their own.
        told: how they differ, or where it is missing.
    """

    name: str
    what: str
    keys: tuple[str | None, str | None]
    outcome: str
    told: str


def pairs(first: Store, second: Store) -> Iterator[Pair]:
    """Every question of either folder, in order."""
    sides = [{_name(r["run"]): r["key"] for r in store.for_tables(store.keys())} for store in (first, second)]
    for name in sorted(sides[0].keys() | sides[1].keys()):
        keys = sides[0].get(name), sides[1].get(name)
        records = [None if key is None else store.read(key) for store, key in zip((first, second), keys)]
        known = next(record for record in records if record is not None)
        asked = question(known["run"])
        what = describe([asked])[asked.key] + f" on {asked.model.name}"
        a, b = records
        if a is None or b is None:
            yield Pair(name, what, keys, MISSING, f"no record in {(first if a is None else second).root}")
        else:
            yield Pair(name, what, keys, *_compared(a, b))


def _name(run: Mapping[str, Any]) -> str:
    values = nameless(dict(run))
    return digest({part: value for part, value in values.items() if part != "machine"})


def _compared(a: Record, b: Record) -> tuple[str, str]:
    if "kind" in a["run"]:
        if (a["status"], a.get("result")) == (b["status"], b.get("result")):
            return IDENTICAL, ""
        if not a["run"]["machine"] == b["run"]["machine"] == ANY_MACHINE:
            return MEASURED, f"on {a['run']['machine']} and on {b['run']['machine']}"
        far = [point for point in measured.compare(a, b, False) if point.same is False]
        return (DIFFERS if far else EQUIVALENT), _told(far or measured.compare(a, b, True))
    lacking = [part for part in ("training", "heldout", "evaluation", "losses") if (part in a) != (part in b)]
    if lacking:
        return DIFFERS, f"only one has {', '.join(lacking)} ({a['status']}, {b['status']})"
    if (a.get("evaluation") or {}).keys() != (b.get("evaluation") or {}).keys():
        return DIFFERS, "other tasks"
    exact = [point for point in compare(a, b, True) if point.same is False]
    if not exact:
        return IDENTICAL, ""
    far = [point for point in compare(a, b, False) if point.same is False]
    return (DIFFERS if far else EQUIVALENT), _told(far or exact)


def _told(points: Sequence[Point]) -> str:
    return "; ".join(f"{point.what}: {point.told}" for point in points if not point.same)

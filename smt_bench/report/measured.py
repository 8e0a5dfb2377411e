"""Which measurements of time and memory may stand in one table: those of one set of packages on one machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from smt_bench.records.store import Record, finished
from smt_bench.report.conditions import listed
from smt_bench.report.notes import made_with


def measured(records: Iterable[Record], model: str) -> tuple[list[Record], list[str]]:
    """The finished measurements that were made like the newest of them: a mean over two torch versions is neither's.

    Returns:
        (records, lines for below the table: versions and hardware behind it, and what was left out for being unlike).

    Raises:
        ValueError: no measurement of this model was finished.
    """
    done = finished(records, model)
    like = _made(max(done, key=_ended))
    kept, unlike = ([r for r in done if (_made(r) == like) is alike] for alike in (True, False))
    return kept, [like[0], _left_out(unlike)] if unlike else [like[0]]


def _made(record: Record) -> tuple[str, str]:
    """Packages and processor; and the threads or GPU, as the run itself states them."""
    return made_with([record]), record["run"]["machine"]


def _ended(record: Record) -> str:
    return record.get("finished") or ""


def _left_out(records: Sequence[Record]) -> str:
    names = listed([f"{r['run']['model']['name']} seed {r['run']['seed']}" for r in records])
    return (
        f"Left out, measured with other packages or on other hardware than the newest: {names}. {made_with(records)} "
        "To have them counted, measure all of them again into another --results folder."
    )

"""Untuned and tuned side by side: methods with the recipe's rates and settings, and with those that a tuning found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from smt_bench.evidence.claims import Sheet
from smt_bench.evidence.verdicts import Claim
from smt_bench.evidence.words import rank, title
from smt_bench.records.store import Record
from smt_bench.report.accuracy.variants import write_sheet


def apart(records: Sequence[Record]) -> tuple[list[Record], dict[str, list[Record]]]:
    """Records with the recipe's settings, and those with tuned ones by their tuning, in the order in which they were started."""
    published = [r for r in records if not r["run"].get("tuning")]
    by_tuning: dict[str, list[Record]] = {}
    for record in sorted((r for r in records if r["run"].get("tuning")), key=lambda r: r.get("started") or ""):
        by_tuning.setdefault(record["run"]["tuning"], []).append(record)
    return published, by_tuning


def untrained(records: Sequence[Record]) -> list[Record]:
    """Those of models as they are, which no tuning changes."""
    return [r for r in records if not r["run"]["train"]["lr"]]


def found(records: Sequence[Record], tuning: str) -> str:
    """What a tuning found, a sentence."""
    told = {}
    for record in records:
        run = record["run"]
        told[run["method"]["name"]] = f"{title(run['method']['name'])} {run['train']['lr']:g}"
    return f"Learning rates and settings of tuning {tuning}: {', '.join(told.values())}; settings in tuning/tuning.md."


def label(record: Record) -> str:
    """The row of a record."""
    return title(record["run"]["method"]["name"]) + (" (tuned)" if record["run"].get("tuning") else "")


def write_beside(records: Sequence[Record], folder: Path, model: str, tuning: str) -> list[Path]:
    """Writes the table; nothing where a method has several variants, which a row of its own would mix.

    Args:
        records: with the recipe's settings and of one tuning.
        folder: where the files go.
        model: for the title.
        tuning: its hash.
    """
    cells = Counter((label(r), r["run"]["method"]["fraction"], r["run"]["seed"]) for r in records)
    if max(cells.values()) > 1:
        return []
    names = sorted({r["run"]["method"]["name"] for r in records}, key=rank)
    there = {label(r) for r in records}
    order = [row for name in names for row in (title(name), f"{title(name)} (tuned)") if row in there]
    pairs = [row for row in order if f"{row} (tuned)" in there]
    claims = tuple(Claim(f"{row} gains by being tuned", f"{row} (tuned)", row) for row in pairs)
    sheet = Sheet(
        "tuned", "The recipe's settings and tuned ones", label, tuple(order), pairs[0] if pairs else order[0], claims,
        remarks=(found([r for r in records if r["run"].get("tuning")], tuning),
                 "Each method was searched by as many trials, on other seeds and on the other part of the held-out examples."),
        first="method",
    )  # fmt: skip
    return write_sheet(records, folder, model, sheet)

"""What is marked as best against what is best."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from smt_bench.audit.finding import AGREES, UNKNOWN, Finding, differs
from smt_bench.audit.printed import Row, number, title

MARK = "(best)"


def _scores(rows: Sequence[Row]) -> dict[tuple[str, str], list[tuple[Decimal, str, bool]]]:
    """(model, method) -> (average, fraction, marked), in the order of the table."""
    found: dict[tuple[str, str], list[tuple[Decimal, str, bool]]] = {}
    for row in rows:
        average = number(row["avg"])
        if average is not None:
            entry = average, row["params_pct"], row.get("marked_best") == "1"
            found.setdefault((row["model"], row["method"]), []).append(entry)
    return found


def best_marks(table: str, rows: Sequence[Row]) -> list[Finding]:
    """The marked cell of every line against the line's highest number."""
    found = []
    for (model, method), scores in _scores(rows).items():
        marked = [(average, pct) for average, pct, mark in scores if mark]
        top, at = max((average, pct) for average, pct, _ in scores)
        for average, pct in marked:
            verdict = AGREES if average == top else differs(average, top)
            row = f"{model} {method}, marked at {pct} %"
            found.append(Finding("best mark", title(table), row, f"{at} %", average, top, verdict))
    return found


def best_rows(table: str, rows: Sequence[Row], plateau: str, plateau_rows: Sequence[Row]) -> list[Finding]:
    """Every row called "(best)" against the highest number that the other table has for that model and method."""
    scores = _scores(plateau_rows)
    found = []
    for row in rows:
        if not row["method"].endswith(MARK):
            continue
        printed, method = number(row["avg"]), row["method"].removesuffix(MARK)
        assert printed is not None
        name = f"{row['model']} {row['method']} {row['params_pct']} %"
        others = scores.get((row["model"], method))
        if others is None:
            verdict = f"{UNKNOWN}: not in {title(plateau)}"
            found.append(Finding("best row", title(table), name, "avg", printed, None, verdict))
            continue
        top, at = max((average, pct) for average, pct, _ in others)
        verdict = AGREES if printed == top else f"{differs(printed, top)} from the best, at {at} %"
        found.append(Finding("best row", title(table), name, "avg", printed, top, verdict))
    return found

"""The papers' claims about a table: which cells each is about, the printed difference, our evidence, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smt_bench.evidence.cells import Group, common_tasks
from smt_bench.evidence.claims import Sheet, Weighed
from smt_bench.evidence.verdicts import RULE, Claim, tally
from smt_bench.evidence.words import percent
from smt_bench.report import notes
from smt_bench.report.conditions import parts
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table

_EVIDENCE = (
    "difference", "low", "high", "seeds_ci95", "verdict", "nll_difference", "nll_low", "nll_high", "nll_seeds_ci95",
    "nll_verdict", "n_seeds", "n_examples", "n_heldout",
)  # fmt: skip


def _printed_difference(claim: Claim, a: Group, b: Group, sheet: Sheet) -> float | None:
    mine, theirs = sheet.printed(claim.ahead, a.fraction_pct), sheet.printed(claim.behind, b.fraction_pct)
    return None if mine is None or theirs is None else mine - theirs


def verdict_lines(judged: Sequence[Weighed], name: str) -> list[str]:
    """The verdict on a whole table, and where its claims stand one by one; nothing without claims."""
    if not judged:
        return []
    theirs = [row for claim, *_, row in judged if not claim.control]
    if not theirs:
        return [f"No verdict: the rows of the paper's claims were not run. Controls in {name}_claims.md. {RULE}"]
    lines = [
        f"Verdict on {what}: {tally([row[column] for row in theirs])}."
        for what, column in (("accuracy", "verdict"), ("held-out NLL", "nll_verdict"))
    ]
    return [*lines, f"Claim by claim in {name}_claims.md. {RULE}"]


def claims_table(found: Sequence[Group], model: str, sheet: Sheet, judged: Sequence[Weighed]) -> Table:
    """The claims one by one: the printed difference, ours with its intervals, and the verdicts."""
    tasks = common_tasks(found)
    marked = bool(notes.overlapping(found) & set(tasks))
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for claim, a, b, row in judged:
        printed = _printed_difference(claim, a, b, sheet)
        share = "" if a.fraction_pct is None else percent(a.fraction_pct)
        if a.fraction != b.fraction:
            share = " / ".join("all" if g.fraction_pct is None else percent(g.fraction_pct) for g in (a, b))
        points, nats = versus(row, "", 1), versus(row, "nll_", 4)
        if points is not None and marked and (a.trains or b.trains):
            points += notes.OVERLAP_MARK
        text = ("control: " if claim.control else "") + claim.text
        shown = None if printed is None else f"{printed:+.1f}"
        rows.append([text, f"{a.method} − {b.method}", share, shown, points, row["verdict"], nats, row["nll_verdict"]])
        rows[-1].append(row["n_seeds"])
        kind: dict[str, Cell] = {name: getattr(claim, name) for name in ("equal", "denied", "control")}
        cells = {"ahead": a.method, "behind": b.method, "ahead_pct": a.fraction_pct, "behind_pct": b.fraction_pct}
        evidence = {name: row[name] for name in _EVIDENCE}
        data.append({"claim": claim.text, **kind, **cells, "printed_difference": printed, **evidence})
    header = ["claim", "difference", "trainable", "printed, points", "ours, points", "verdict", "ours, nats"]
    header += ["verdict on held-out NLL", "seeds"]
    lines = [
        f"Printed: {sheet.source or 'no number'}, single runs. Points of accuracy: positive favours the first; nats per "
        "held-out response token: negative does.",
        "±: 95 % over seeds; [low, high]: 95 % over examples (paired bootstrap).",
        RULE,
        *parts(found),
        *notes.overlap(found, tasks),
        *notes.losses(found),
    ]
    return Table(f"Claims: {sheet.heading}, {model}", header, rows, lines, data)


def versus(line: dict[str, Any], prefix: str, digits: int) -> str | None:
    """A difference with its intervals over seeds and over examples, e.g. "+4.2 ± 1.3 [+2.8, +5.5]"; None without one."""
    low, high = line[f"{prefix}low"], line[f"{prefix}high"]
    between = None if low is None else (low, high)
    return written(line[f"{prefix}difference"], digits, line[f"{prefix}seeds_ci95"], between, signed=True)


def minus_published(ours: float | None, ci95: float | None, stderr: float | None, printed: float | None) -> str | None:
    """Our accuracy minus the printed one, a single run without an interval; None where either is missing.

    Args:
        ours: accuracy (%), mean over seeds.
        ci95: half-width over seeds; where there is none, the interval is over examples and stands in brackets.
        stderr: over examples.
        printed: the paper's number.

    Returns:
        E.g. "+0.4 ± 1.2" over seeds, "+0.4 [-1.0, +1.8]" over examples.
    """
    if ours is None or printed is None:
        return None
    difference = ours - printed
    half = 1.96 * stderr if ci95 is None and stderr is not None else None
    return written(difference, 1, ci95, None if half is None else (difference - half, difference + half), signed=True)

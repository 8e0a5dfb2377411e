"""The papers' claims about a table: which cells each is about, the printed difference, our evidence, the verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench import notes
from smt_bench.store import Record
from smt_bench.summary import Group, common_tasks, percent
from smt_bench.tables import Cell, Table
from smt_bench.tasks import TASKS
from smt_bench.verdicts import RULE, Claim, tally, weigh

_EVIDENCE = (
    "difference", "low", "high", "seeds_ci95", "verdict", "nll_difference", "nll_low", "nll_high", "nll_seeds_ci95",
    "nll_verdict", "n_seeds", "n_examples", "n_heldout",
)  # fmt: skip
Weighed = tuple[Claim, Group, Group, dict[str, Any]]  # a claim, the cells it is about, `verdicts.weigh` of them
Label = Callable[[Record], str | None]


@dataclass(frozen=True)
class Sheet:
    """How records become one of the paper's tables.

    Attributes:
        name: file name, e.g. "table6".
        heading: title without the model.
        label: the row a record belongs to; None: it is not of this table.
        order: the rows' order; labels not named follow, by name.
        reference: the row that the others are compared with.
        claims: what the paper says; a claim is judged at every fraction at which both rows were run.
        printed: the paper's average (%) of a row at a trainable percentage; None where it has none.
        source: where `printed` comes from.
        remarks: what a reader has to know besides.
        first: what the first column holds.
        printed_on: the model of the printed numbers.
        printed_pct: their trainable percentage; None where `printed` minds it.
        printed_at: the trainable percentage to show with a row's printed number; None where it is that of the row.
    """

    name: str
    heading: str
    label: Label
    order: tuple[str, ...]
    reference: str
    claims: tuple[Claim, ...]
    printed: Callable[[str, float | None], float | None] = lambda label, fraction: None
    source: str = ""
    remarks: tuple[str, ...] = ()
    first: str = "variant"
    printed_on: str = "llama-7b"
    printed_pct: float | None = 0.84
    printed_at: Callable[[str, float | None], float | None] = lambda label, fraction: None


def why_unpublished(found: Sequence[Group], model: str, printed_on: str) -> str | None:
    """Why the printed numbers are answers to another question; None where they are answers to the same.

    The same question: the model, the paper's protocol, all of its tasks.
    """
    run = found[0].run
    evaluation = run["evaluation"]
    wanted = {t.name for t in TASKS.values() if t.family == run["data"]["family"] and t.source == "llm-adapters"}
    reasons = []
    if model != printed_on:
        reasons.append(f"on {printed_on}")
    if evaluation["protocol"] != "llm-adapters":
        reasons.append(f"under protocol llm-adapters (here: {evaluation['protocol']})")
    if set(evaluation["tasks"]) != wanted:
        reasons.append(f"over other tasks ({len(wanted)} of the LLM-Adapters collection)")
    return ", ".join(reasons) or None


def matches_paper(found: Sequence[Group], model: str, printed_on: str) -> bool:
    """Whether the printed numbers are answers to the same question."""
    return why_unpublished(found, model, printed_on) is None


def weighed(found: Sequence[Group], sheet: Sheet) -> list[Weighed]:
    """Every claim of the sheet at every fraction at which both of its rows were run, with the evidence."""
    tasks = common_tasks(found)
    made: list[Weighed] = []
    for claim in sheet.claims:
        for a in (g for g in found if g.method == claim.ahead):
            rivals = [g for g in found if g.method == claim.behind]
            # Rows of one label and several fractions meet at equal fractions; lone rows meet whatever their fractions.
            same = [g for g in rivals if g.fraction == a.fraction]
            alone = len(rivals) == 1 and sum(g.method == claim.ahead for g in found) == 1
            made += [(claim, a, b, weigh(claim, a, b, tasks)) for b in (rivals if alone else same)]
    return made


def _printed_difference(claim: Claim, a: Group, b: Group, sheet: Sheet) -> float | None:
    mine, theirs = sheet.printed(claim.ahead, a.fraction_pct), sheet.printed(claim.behind, b.fraction_pct)
    return None if mine is None or theirs is None else mine - theirs


def verdict_lines(judged: Sequence[Weighed], name: str) -> list[str]:
    """The verdict on a whole table, and where its claims stand one by one; nothing without claims."""
    if not judged:
        return []
    theirs = [row for claim, *_, row in judged if not claim.control]
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
        *notes.overlap(found, tasks),
        *notes.losses(found),
    ]
    return Table(f"Claims: {sheet.heading}, {model}", header, rows, lines, data)


def versus(line: dict[str, Any], prefix: str, digits: int) -> str | None:
    """A difference with its intervals over seeds and over examples, e.g. "+4.2 ± 1.3 [+2.8, +5.5]"; None without one."""
    centre = line[f"{prefix}difference"]
    if centre is None:
        return None
    seeds = "" if line[f"{prefix}seeds_ci95"] is None else f" ± {line[f'{prefix}seeds_ci95']:.{digits}f}"
    return f"{centre:+.{digits}f}{seeds} [{line[f'{prefix}low']:+.{digits}f}, {line[f'{prefix}high']:+.{digits}f}]"


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
    if ci95 is not None:
        return f"{difference:+.1f} ± {ci95:.1f}"
    half = None if stderr is None else 1.96 * stderr
    return f"{difference:+.1f}" + ("" if half is None else f" [{difference - half:+.1f}, {difference + half:+.1f}]")

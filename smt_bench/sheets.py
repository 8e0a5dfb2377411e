"""A table of variants: the same training under changed settings, one row each, and what it says of the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smt_bench import notes
from smt_bench.comparisons import compare
from smt_bench.store import Record
from smt_bench.summary import Group, accuracy, common_tasks, groups, percent, summarise, task_title
from smt_bench.tables import Cell, Table
from smt_bench.tasks import TASKS
from smt_bench.verdicts import RULE, Claim, tally, weigh

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


def rows_of(records: Iterable[Record], sheet: Sheet) -> list[Group]:
    """The sheet's cells, in its order; a record's method gets the row's label as its name.

    Raises:
        ValueError: no record of this table, or records that no table may compare.
    """
    named = [(sheet.label(r), r) for r in records]
    found = groups(relabelled(record, label) for label, record in named if label is not None)
    place = {label: i for i, label in enumerate(sheet.order)}
    return sorted(found, key=lambda g: (g.fraction or 0, place.get(g.method, len(place)), g.method))


def relabelled(record: Record, label: str) -> Record:
    """The record with another name for its method; the stored one stays as it is."""
    run = record["run"]
    return {**record, "run": {**run, "method": {**run["method"], "name": label}}}


def matches_paper(found: Sequence[Group], model: str, printed_on: str) -> bool:
    """Whether the printed numbers are answers to the same question: the model, the paper's protocol, all its tasks."""
    run = found[0].run
    wanted = {t.name for t in TASKS.values() if t.family == run["data"]["family"] and t.source == "llm-adapters"}
    same = set(run["evaluation"]["tasks"]) == wanted and run["evaluation"]["protocol"] == "llm-adapters"
    return model == printed_on and same


def _at_budget(group: Group, sheet: Sheet) -> bool:
    """Whether a row has the trainable percentage of the printed one; the paper itself writes 0.84 and 0.86 for the same."""
    if sheet.printed_pct is None or group.fraction_pct is None:
        return True
    return abs(group.fraction_pct - sheet.printed_pct) < 0.05 * sheet.printed_pct


def write_sheet(records: Sequence[Record], folder: Path, model: str, sheet: Sheet) -> list[Path]:
    """Writes the table and, beside it, the claims with their evidence; the table first.

    Raises:
        ValueError: no record of this table, or records that no table may compare.
    """
    return write_groups(rows_of(records, sheet), folder, model, sheet)


def write_groups(found: Sequence[Group], folder: Path, model: str, sheet: Sheet) -> list[Path]:
    """The same from cells that are there already, whose methods are called as the rows are."""
    weighed = _weighed(found, sheet)
    files = _table(found, model, sheet, weighed).write(folder, sheet.name)
    if weighed:
        files += _claims(found, model, sheet, weighed).write(folder, f"{sheet.name}_claims")
    return files


def _weighed(found: Sequence[Group], sheet: Sheet) -> list[tuple[Claim, Group, Group, dict[str, Any]]]:
    tasks = common_tasks(found)
    made = []
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


def _table(found: Sequence[Group], model: str, sheet: Sheet, weighed: Sequence[tuple[Any, ...]]) -> Table:
    tasks = common_tasks(found)
    comparable = matches_paper(found, model, sheet.printed_on)
    shared = notes.overlapping(found) & set(tasks)
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for group in found:
        line = _numbers(group, tasks, found, sheet)
        printed = sheet.printed(group.method, group.fraction_pct) if comparable and _at_budget(group, sheet) else None
        line["published"] = printed
        line["minus_published"] = None if printed is None or line["accuracy"] is None else line["accuracy"] - printed
        half = line["ci95"] if line["ci95"] is not None else _times(line["stderr"], 1.96)
        mark = notes.OVERLAP_MARK if shared and group.trains and line["accuracy"] is not None else ""
        cells: list[Cell] = [
            group.method,
            "" if group.fraction_pct is None else percent(group.fraction_pct),
            len(group.done),
            (_plus(line["accuracy"], line["ci95"], 1) or group.status) + mark,
        ]
        if comparable:
            cells += [_plus(printed, None, 1), _plus(line["minus_published"], half, 1, signed=True)]
        cells += [
            _versus(line, "", 1),
            _plus(line["heldout_nll"], line["heldout_nll_ci95"], 4),
            _versus(line, "nll_", 4),
        ]
        rows.append(cells)
        for task in tasks:
            line[task] = _mean([accuracy(r, [task]) for r in group.done])
        data.append(line | {"keys": " ".join(r["key"] for r in (*group.done, *group.lost))})
    header = [sheet.first, "trainable", "seeds", "accuracy, %"]
    header += ["published", "ours − published"] if comparable else []
    header += [f"minus {sheet.reference}, points", "held-out NLL", f"minus {sheet.reference}, nats"]
    return Table(f"{sheet.heading}, {model}", header, rows, _lines(found, sheet, weighed, comparable), data)


def _numbers(group: Group, tasks: Sequence[str], found: Sequence[Group], sheet: Sheet) -> dict[str, Any]:
    summary = summarise((*group.done, *group.lost)).iloc[0]
    line: dict[str, Any] = {"row": group.method, "fraction_pct": group.fraction_pct, "n_seeds": len(group.done)}
    # Averages cover the tasks that all rows have.
    scores = [accuracy(r, tasks) for r in group.done] if tasks else []
    line |= dict(zip(("accuracy", "ci95"), _mean_ci(scores)))
    for name in ("stderr", "heldout_nll", "heldout_nll_ci95", "format_failure_pct", "trainable_pct"):
        line[name] = None if math.isnan(summary[name]) else float(summary[name])
    rival = [g for g in found if g.method == sheet.reference and g.fraction == group.fraction]
    rival = rival or [g for g in found if g.method == sheet.reference]
    names = ("difference", "low", "high", "seeds_ci95", "nll_difference", "nll_low", "nll_high", "nll_seeds_ci95")
    against = compare(group, rival[0], tasks) if len(rival) == 1 and rival[0] is not group else {}
    return line | {name: against.get(name) for name in names}


def _claims(found: Sequence[Group], model: str, sheet: Sheet, weighed: Sequence[tuple[Any, ...]]) -> Table:
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for claim, a, b, row in weighed:
        printed = _printed_difference(claim, a, b, sheet)
        share = "" if a.fraction_pct is None else percent(a.fraction_pct)
        if a.fraction != b.fraction:
            share = " / ".join("all" if g.fraction_pct is None else percent(g.fraction_pct) for g in (a, b))
        points, nats = _versus(row, "", 1), _versus(row, "nll_", 4)
        rows.append(
            [
                ("control: " if claim.control else "") + claim.text,
                f"{a.method} − {b.method}",
                share,
                None if printed is None else f"{printed:+.1f}",
            ]
            + [points, row["verdict"], nats, row["nll_verdict"], row["n_seeds"]]
        )
        names = ("difference", "low", "high", "seeds_ci95", "verdict", "nll_difference", "nll_low", "nll_high")
        data.append(
            {"claim": claim.text, "equal": claim.equal, "control": claim.control, "ahead": a.method, "behind": b.method}
            | {"ahead_pct": a.fraction_pct, "behind_pct": b.fraction_pct, "printed_difference": printed}
            | {
                name: row[name]
                for name in (*names, "nll_seeds_ci95", "nll_verdict", "n_seeds", "n_examples", "n_heldout")
            }
        )
    header = ["claim", "difference", "trainable", "printed, points", "ours, points", "verdict", "ours, nats"]
    header += ["verdict on held-out NLL", "seeds"]
    lines = [
        f"Printed: {sheet.source or 'no number'}, single runs. Points of accuracy: positive favours the first; nats per "
        "held-out response token: negative does.",
        "±: 95 % over seeds; [low, high]: 95 % over examples (paired bootstrap).",
        RULE,
        *notes.losses(found),
    ]
    return Table(f"Claims: {sheet.heading}, {model}", header, rows, lines, data)


def _lines(found: Sequence[Group], sheet: Sheet, weighed: Sequence[tuple[Any, ...]], comparable: bool) -> list[str]:
    summary = summarise(r for g in found for r in (*g.done, *g.lost)) if _distinct(found) else None
    lines = []
    if weighed:
        theirs = [row for claim, *_, row in weighed if not claim.control]
        for what, name in (("accuracy", "verdict"), ("held-out NLL", "nll_verdict")):
            lines.append(f"Verdict on {what}: {tally([row[name] for row in theirs])}.")
        lines.append(f"Claim by claim in {sheet.name}_claims.md. {RULE}")
    lines += sheet.remarks
    tasks = [task_title(t) for t in common_tasks(found)]
    lines.append(f"Accuracy: mean over {', '.join(tasks) or 'no task'}, every task counting the same.")
    lines.append(
        "±: 95 % over seeds; [low, high]: 95 % over examples, paired bootstrap. Held-out NLL in nats per token."
    )
    if comparable:
        lines.append(f"Published: {sheet.source}, single runs.")
    elif sheet.source:
        lines.append(
            f"Published numbers ({sheet.source}) are on another model or protocol: only their signs are compared."
        )
    rates = {g.run["train"]["lr"] for g in found if g.trains}
    setting = notes.setting(found)
    if len(rates) == 1:
        setting = [line for line in setting if not line.startswith("Learning rates")] + [
            f"Learning rate: {rates.pop():g} in all rows."
        ]
    lines += [*setting, *notes.deviations(found)]
    if summary is not None:
        lines.append(notes.format_failures(summary))
    lines += notes.overlap(found, common_tasks(found))
    return [*lines, *notes.losses(found), notes.provenance(found)]


def _distinct(found: Sequence[Group]) -> bool:
    keys = [r["key"] for g in found for r in (*g.done, *g.lost)]
    return len(keys) == len(set(keys))


def _versus(line: dict[str, Any], prefix: str, digits: int) -> str | None:
    centre = line[f"{prefix}difference"]
    if centre is None:
        return None
    seeds = "" if line[f"{prefix}seeds_ci95"] is None else f" ± {line[f'{prefix}seeds_ci95']:.{digits}f}"
    return f"{centre:+.{digits}f}{seeds} [{line[f'{prefix}low']:+.{digits}f}, {line[f'{prefix}high']:+.{digits}f}]"


def _plus(value: float | None, half: float | None, digits: int, signed: bool = False) -> str | None:
    if value is None:
        return None
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text if half is None else f"{text} ± {half:.{digits}f}"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _mean_ci(values: Sequence[float]) -> tuple[float | None, float | None]:
    from smt_bench.stats import mean_ci

    return mean_ci(values) if values else (None, None)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value

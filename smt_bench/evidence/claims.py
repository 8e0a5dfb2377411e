"""The papers' claims about a table: which cells each is about, and the evidence on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench.data import families
from smt_bench.evidence import published
from smt_bench.evidence.cells import Group, common_tasks
from smt_bench.evidence.verdicts import Claim, weigh
from smt_bench.records.store import Record

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
    printed_on: str = published.MODEL
    printed_pct: float | None = 0.84
    printed_at: Callable[[str, float | None], float | None] = lambda label, fraction: None


def why_unpublished(found: Sequence[Group], model: str, printed_on: str) -> str | None:
    """Why the printed numbers are answers to another question; None where they are answers to the same.

    The same question: the model (its weights, from the hub: a name says nothing), the paper's protocol, all of its tasks.
    """
    run = found[0].run
    evaluation = run["evaluation"]
    family = families.known(run["data"]["family"])
    wanted = {task.name for task in family.tasks} if family is not None else set()
    reasons = []
    if model != printed_on:
        reasons.append(f"on {printed_on}")
    elif run["model"]["weights"] != "hub":
        reasons.append(f"on the hub's {printed_on} (here: {run['model']['weights']} weights of that name)")
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

"""The papers' claims about a table: which cells each is about, and the evidence on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smt_bench.data import families
from smt_bench.evidence import published
from smt_bench.evidence.cells import Group, common_tasks
from smt_bench.evidence.decisions import OPEN, Decision, holm, seeds_needed, strictest
from smt_bench.evidence.pairs import PREFIXES, Comparison, compare, decided
from smt_bench.evidence.verdicts import Claim, verdict
from smt_bench.records.store import Record

Label = Callable[[Record], str | None]
Evidence = tuple[Claim, Comparison, float | None]  # a claim, what it is about, the paper's difference (points)


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
        printed_family: the data family of the printed numbers; None: whatever family the runs are of.
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
    printed_family: str | None = None


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
    if all(g.run["train"].get("base") for g in found):
        reasons.append("of whole weights (here: 4 bits)")
    if set(evaluation["tasks"]) != wanted:
        reasons.append(f"over other tasks ({len(wanted)} of the LLM-Adapters collection)")
    return ", ".join(reasons) or None


def matches_paper(found: Sequence[Group], model: str, printed_on: str) -> bool:
    """Whether the printed numbers are answers to the same question."""
    return why_unpublished(found, model, printed_on) is None


@dataclass(frozen=True)
class Weighed:
    """A claim, and what is said of it.

    Attributes:
        claim: the statement.
        comparison: of its two cells.
        decisions: by prefix ("": on accuracy, "nll_": on held-out NLL), corrected within the table's family.
        printed: the difference that the paper has (points); None where it has none.
        seeds: how many the printed difference would need, where accuracy cannot be told and a number of them does.
    """

    claim: Claim
    comparison: Comparison
    decisions: dict[str, Decision]
    printed: float | None
    seeds: int | None

    def verdict(self, prefix: str = "") -> str:
        """On the claim."""
        return verdict(self.decisions[prefix], self.claim.equal, self.claim.denied)


def meetings(found: Sequence[Group], claims: Sequence[Claim]) -> list[tuple[Claim, Group, Group]]:
    """Every claim with the two cells that it is about, at every fraction at which there are both."""
    made = []
    for claim in claims:
        for a in (g for g in found if g.method == claim.ahead):
            rivals = [g for g in found if g.method == claim.behind]
            # Rows of one label and several fractions meet at equal fractions; lone rows meet whatever their fractions.
            same = [g for g in rivals if g.fraction == a.fraction]
            alone = len(rivals) == 1 and sum(g.method == claim.ahead for g in found) == 1
            made += [(claim, a, b) for b in (rivals if alone else same)]
    return made


def weighed(found: Sequence[Group], sheet: Sheet) -> list[Weighed]:
    """Every claim of the sheet at every fraction at which both of its rows were run, with the evidence.

    The paper's claims are one family, corrected together; the controls are another.
    """
    return weighed_together([(found, sheet)])[0]


def weighed_together(parts: Sequence[tuple[Sequence[Group], Sheet]]) -> list[list[Weighed]]:
    """The same of the parts of one table, whose cells no part shares: all their claims are one family; part by part."""
    pairs = [_pairs(found, sheet) for found, sheet in parts]
    judged = iter(weigh([pair for own in pairs for pair in own]))
    return [[next(judged) for _ in own] for own in pairs]


def _pairs(found: Sequence[Group], sheet: Sheet) -> list[Evidence]:
    tasks = common_tasks(found)
    return [
        (claim, compare(a, b, tasks), _printed(claim, a, b, sheet)) for claim, a, b in meetings(found, sheet.claims)
    ]


def weigh(pairs: Sequence[Evidence]) -> list[Weighed]:
    """The claims of one table with what is said of them: the paper's corrected together, the controls likewise.

    Args:
        pairs: each claim with the comparison it is about, and the difference that the paper has (points; None: none).
    """
    made: dict[int, dict[str, Decision]] = {i: {} for i in range(len(pairs))}
    sizes = {control: sum(claim.control == control for claim, _, _ in pairs) for control in (False, True)}
    for control in (False, True):
        family = [i for i, (claim, _, _) in enumerate(pairs) if claim.control == control]
        for prefix in PREFIXES:
            beyond = [pairs[i][0].equal for i in family]
            for i, decision in zip(family, decided([pairs[i][1] for i in family], prefix, holm, beyond)):
                made[i][prefix] = decision
    return [
        Weighed(claim, c, made[i], printed, _seeds(c, made[i][""], printed, sizes[claim.control]))
        for i, (claim, c, printed) in enumerate(pairs)
    ]


def _printed(claim: Claim, a: Group, b: Group, sheet: Sheet) -> float | None:
    mine, theirs = sheet.printed(claim.ahead, a.fraction_pct), sheet.printed(claim.behind, b.fraction_pct)
    return None if mine is None or theirs is None else mine - theirs


def _seeds(c: Comparison, decision: Decision, printed: float | None, family: int) -> int | None:
    if decision.zone != OPEN or not printed or c.accuracy is None:
        return None
    return seeds_needed(c.accuracy.parts, printed, strictest(family))

"""The SpIEL paper's claims about composing, one family; and what it printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smt_bench.evidence.decisions import OPEN, Decision, decide, holm, margins
from smt_bench.evidence.interval import Estimate
from smt_bench.evidence.published import published
from smt_bench.evidence.verdicts import verdict
from smt_bench.evidence.words import percent, rank, title
from smt_bench.experiments.accuracy.composition.found import OWN, SUM, Found, Terms
from smt_bench.experiments.accuracy.composition.tables import around, difference, numbers
from smt_bench.report.accuracy.claims import INTERVAL, missed, p_value
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table

AG, LORA, FULL = "spiel", "lora", "full"
PRINTED_AS = {"spiel": "spiel-ag"}
SINGLE = ("gpt4alpaca_humaneval", "tulu2_humaneval")  # the parts of the paper's composition, on its one benchmark


@dataclass(frozen=True)
class PaperClaim:
    """A claim of the paper.

    Attributes:
        text: the statement, with its place.
        ahead: what is said to be larger.
        behind: than what.
        methods: that it needs.
        terms: the contrast at a fraction; empty where it cannot be made.
        printed: the paper's difference (points of HumanEval); None where it has none.
    """

    text: str
    ahead: str
    behind: str
    methods: tuple[str, ...]
    terms: Callable[[Found, float | None], Terms]
    printed: Callable[[], float | None]


def score(method: str, model: str, column: str) -> float | None:
    """A number of the paper's table 1 (%)."""
    table = published("spiel_table1_main")
    rows = table[(table["model"] == model) & (table["method"] == PRINTED_AS.get(method, method))]
    found = rows[column].dropna()
    return float(found.iloc[0]) if len(found) else None


def printed_gain(method: str) -> float | None:
    """The sum minus the better adapter, on 7B."""
    summed, *single = (score(method, "llama2-7b", column) for column in ("composed_humaneval", *SINGLE))
    known = [value for value in single if value is not None]
    return summed - max(known) if summed is not None and len(known) == len(single) else None


def minus(first: float | None, second: float | None) -> float | None:
    """A difference of what may be missing."""
    return None if first is None or second is None else first - second


def _gain(method: str) -> PaperClaim:
    name = title(method)
    return PaperClaim(
        f"{name}: the sum is better than the better adapter (section 5.1)", f"{name}, {SUM}", f"{name}, better alone", (method,),
        lambda found, fraction: found.gain(method, fraction), lambda: printed_gain(method),
    )  # fmt: skip


def _larger(found: Found, fraction: float | None) -> Terms:
    mine, theirs = found.gain(AG, fraction), found.gain(LORA, fraction, -1.0)
    return [*mine, *theirs] if mine and theirs else []


BETWEEN = (
    PaperClaim(
        "SpIEL-AG gains more than LoRA (+1.7 against +0.4 on 7B, section 5.1)", "SpIEL-AG, gain", "LoRA, gain", (AG, LORA),
        _larger, lambda: minus(printed_gain(AG), printed_gain(LORA)),
    ),
    PaperClaim(
        "SpIEL-AG composed is ahead of LoRA composed (13B, section 5.1)", f"SpIEL-AG, {SUM}", f"LoRA, {SUM}", (AG, LORA),
        lambda found, fraction: [(1.0, AG, SUM), (-1.0, LORA, SUM)],
        lambda: minus(*(score(m, "llama2-13b", "composed_humaneval") for m in (AG, LORA))),
    ),
    PaperClaim(
        "SpIEL-AG interferes less than full fine-tuning (section 2)", "full, interference", "SpIEL-AG, interference", (AG, FULL),
        lambda found, fraction: [(1.0, FULL, OWN), (-1.0, FULL, SUM), (-1.0, AG, OWN), (1.0, AG, SUM)], lambda: None,
    ),
)  # fmt: skip


def claims_about(names: set[str]) -> list[PaperClaim]:
    """Those whose methods are there; full fine-tuning composes nothing in the paper."""
    made = [*(_gain(name) for name in sorted(names - {FULL}, key=rank)), *BETWEEN]
    return [claim for claim in made if names >= set(claim.methods)]


@dataclass(frozen=True)
class Judged:
    """A claim at a fraction, with its evidence."""

    claim: PaperClaim
    fraction: float | None
    estimate: Estimate | None
    decision: Decision


def judge_all(found: Found) -> list[Judged]:
    """The paper's claims at every fraction, corrected together."""
    names = {method for method, _ in found.places}
    fractions: list[float | None] = [*sorted({f for _, f in found.places if f is not None})] or [None]
    pairs = [(claim, fraction) for claim in claims_about(names) for fraction in fractions]
    estimates = [
        found.estimate(terms, fraction) if (terms := claim.terms(found, fraction)) else None
        for claim, fraction in pairs
    ]
    side = next((s for method, f in found.places if (s := found.side(method, SUM, f)) is not None), None)
    count = None if side is None else int(side.items.stratum_G.size)
    decisions = decide(estimates, margins().points, holm, sources=[count] * len(estimates))
    return [Judged(*pair, estimate, decision) for pair, estimate, decision in zip(pairs, estimates, decisions)]


def claims_table(found: Found, judged: list[Judged], model: str) -> Table:
    """Claim by claim."""
    data: list[dict[str, Cell]] = []
    rows: list[list[Cell]] = []
    for j in judged:
        paper, told = j.claim.printed(), verdict(j.decision)
        place = None if j.fraction is None else round(100 * j.fraction, 10)
        line: dict[str, Cell] = {"claim": j.claim.text, "fraction_pct": place, "printed": paper}
        line |= numbers("ours", j.estimate)
        line |= {name: getattr(j.decision, name) for name in ("p", "p_within", "smallest")}
        runs = [r for method in j.claim.methods for r in found.runs(method, j.fraction)]
        data.append(line | {"verdict": told, "keys": " ".join(dict.fromkeys(r["key"] for r in runs))})
        if j.decision.zone == OPEN and j.decision.smallest is not None:
            told += f" ({missed(j.decision.smallest, 1)})"
        rows.append([j.claim.text, "" if place is None else percent(place), written(paper, 1, signed=True)])
        rows[-1] += [difference(j.estimate), p_value(j.decision.p), told]
    lines = [
        "Printed: SpIEL table 1, points of HumanEval, single runs; ours: points of accuracy over all tasks. "
        f"{INTERVAL} A sum and its parts count as independent, which makes these intervals rather too wide.",
        "p: two-sided, of no difference, corrected over all claims here (Holm).",
        *around(found),
    ]
    header = ["claim", "trainable", "printed, points", "ours, points", "p", "verdict"]
    return Table(f"Claims: SpIEL table 1, composition, {model}", header, rows, lines, data)

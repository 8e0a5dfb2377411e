"""The SpIEL paper's claims about composing, which cells each is about, and what the paper printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smt_bench.evidence.cells import Group
from smt_bench.evidence.claims import Evidence, Sheet
from smt_bench.evidence.pairs import compare
from smt_bench.evidence.published import published
from smt_bench.evidence.verdicts import Claim
from smt_bench.evidence.words import rank, title
from smt_bench.experiments.accuracy.composition.found import OWN, SUM, A, B, Found

AG, LORA, FULL = "spiel", "lora", "full"
PRINTED_AS = {"spiel": "spiel-ag"}
SUMMED = "composed_humaneval"  # the paper's composition, on its one benchmark
SINGLE = {A: "gpt4alpaca_humaneval", B: "tulu2_humaneval"}  # its parts
Cells = tuple[Group, Group, list[tuple[float, Group]]]  # the first, what is taken from it, what comes in besides


@dataclass(frozen=True)
class PaperClaim:
    """A claim of the paper.

    Attributes:
        claim: the statement.
        methods: that it needs.
        cells: that it is about, at a fraction; None where they were not run.
        printed: the paper's difference (points of HumanEval); None where it has none.
    """

    claim: Claim
    methods: tuple[str, ...]
    cells: Callable[[Found, float | None], Cells | None]
    printed: Callable[[], float | None]


def score(method: str, model: str, column: str) -> float | None:
    """A number of the paper's table 1 (%)."""
    table = published("spiel_table1_main")
    rows = table[(table["model"] == model) & (table["method"] == PRINTED_AS.get(method, method))]
    found = rows[column].dropna()
    return float(found.iloc[0]) if len(found) else None


def printed_gain(method: str, over: str | None = None) -> float | None:
    """The sum minus one adapter, by default the better one, on 7B."""
    summed, *single = (score(method, "llama2-7b", c) for c in (SUMMED, *([SINGLE[over]] if over else SINGLE.values())))
    known = [value for value in single if value is not None]
    return summed - max(known) if summed is not None and len(known) == len(single) else None


def minus(first: float | None, second: float | None) -> float | None:
    """A difference of what may be missing."""
    return None if first is None or second is None else first - second


def _beats(method: str, alone: str) -> PaperClaim:
    """The sum beats one of its adapters: the paper says so of both."""

    def cells(found: Found, fraction: float | None) -> Cells | None:
        summed, part = (found.group(method, what, fraction) for what in (SUM, alone))
        return None if summed is None or part is None else (summed, part, [])

    name, which = title(method), {A: "first", B: "second"}[alone]
    text = f"{name}: two adapters added beat the {which} alone (section 5.1)"
    claim = Claim(text, f"{name}, {SUM}", f"{name}, {alone}")
    return PaperClaim(claim, (method,), cells, lambda: printed_gain(method, alone))


def _larger(found: Found, fraction: float | None) -> Cells | None:
    parts = [found.group(m, what, fraction) for m in (AG, LORA) for what in (SUM, found.better(m, fraction))]
    mine, my_best, theirs, their_best = parts
    if mine is None or my_best is None or theirs is None or their_best is None:
        return None
    return mine, theirs, [(-1.0, my_best), (1.0, their_best)]


def _ahead(found: Found, fraction: float | None) -> Cells | None:
    mine, theirs = (found.group(method, SUM, fraction) for method in (AG, LORA))
    return None if mine is None or theirs is None else (mine, theirs, [])


def _interferes_less(found: Found, fraction: float | None) -> Cells | None:
    parts = [found.group(m, what, fraction) for m in (AG, FULL) for what in (SUM, OWN)]
    mine, my_own, theirs, their_own = parts
    if mine is None or my_own is None or theirs is None or their_own is None:
        return None
    return mine, theirs, [(-1.0, my_own), (1.0, their_own)]


BETWEEN = (
    PaperClaim(
        Claim("SpIEL-AG gains more than LoRA (+1.7 against +0.4 on 7B, section 5.1)", "SpIEL-AG, gain", "LoRA, gain"),
        (AG, LORA), _larger, lambda: minus(printed_gain(AG), printed_gain(LORA)),
    ),
    PaperClaim(
        Claim("SpIEL-AG composed is ahead of LoRA composed (13B, section 5.1)", f"SpIEL-AG, {SUM}", f"LoRA, {SUM}"),
        (AG, LORA), _ahead, lambda: minus(*(score(m, "llama2-13b", SUMMED) for m in (AG, LORA))),
    ),
    PaperClaim(
        Claim("SpIEL-AG interferes less than full fine-tuning (section 2)", "full, interference", "SpIEL-AG, interference"),
        (AG, FULL), _interferes_less, lambda: None,
    ),
)  # fmt: skip


def claims_about(names: set[str]) -> list[PaperClaim]:
    """Those whose methods are there; full fine-tuning composes nothing in the paper."""
    made = [_beats(name, alone) for name in sorted(names - {FULL}, key=rank) for alone in (A, B)]
    return [claim for claim in (*made, *BETWEEN) if names >= set(claim.methods)]


def evidence(found: Found) -> list[Evidence]:
    """Every claim of the paper at every fraction at which its cells were run."""
    names = {method for method, _ in found.places}
    fractions: list[float | None] = [*sorted({f for _, f in found.places if f is not None})] or [None]
    made: list[Evidence] = []
    for one in claims_about(names):
        for fraction in fractions:
            if (cells := one.cells(found, fraction)) is not None:
                a, b, more = cells
                made.append((one.claim, compare(a, b, found.tasks, more), one.printed()))
    return made


def sheet() -> Sheet:
    """What the table of claims is called, and where its printed numbers come from."""
    return Sheet(
        "composition", "SpIEL table 1, composition", lambda record: None, (), "", (),
        source="SpIEL table 1, HumanEval (7B where not said; its A: GPT4-Alpaca, its B: Tülu v2)",
    )  # fmt: skip

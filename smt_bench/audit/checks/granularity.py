"""Printed accuracies against what a number of questions can give, and what answering without reading gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

from smt_bench.audit.finding import AGREES, Finding, unit
from smt_bench.audit.printed import Row, label, number, title

# Questions of the test sets that are small enough for one decimal to tell: OpenBookQA and AQuA of the LLM-Adapters
# collection (AQuA's file was not at hand: 254 is its published size), SpIEL's 200 GSM questions (its appendix B).
# MultiArith, AddSub and SingleEq are left out: footnote 9 says that their training sets are evaluated.
QUESTIONS = {"obqa": 500, "aqua": 254, "tulu2_gsm": 200}

# Best constant answer (%): most frequent gold answer of the collection's test sets as `audit data` counts it; an equal
# share per option where that file was not at hand (HellaSwag 4, WinoGrande 2, AQuA 5 options).
CONSTANT = {
    "boolq": Decimal("62.17"), "piqa": Decimal("50.49"), "siqa": Decimal("33.62"), "hellaswag": Decimal("25.00"),
    "winogrande": Decimal("50"), "arc_easy": Decimal("26.64"), "arc_challenge": Decimal("26.54"), "obqa": Decimal("27.6"),
    "aqua": Decimal("20"),
}  # fmt: skip


def nearest_share(printed: Decimal, questions: int) -> tuple[Decimal, bool]:
    """The share of `questions` (%) nearest to a printed accuracy, and whether it may be printed so, rounded or cut."""
    right = printed * questions / 100
    step, possible = unit(printed), False
    shares = [Decimal(100 * k) / questions for k in (math.floor(right), math.ceil(right))]
    for share in shares:
        possible = possible or abs(share - printed) <= step / 2 or printed <= share < printed + step
    return min(shares, key=lambda share: abs(share - printed)), possible


def shares(table: str, rows: Sequence[Row], questions: Mapping[str, int] = QUESTIONS) -> list[Finding]:
    """Accuracies that no whole number of right answers gives; those that one gives are counted in one line.

    A mean over several runs could be any number; neither paper says of an accuracy that it is one.
    """
    found = []
    for column, n in questions.items():
        cells = [(row, printed) for row in rows if (printed := number(row.get(column, ""))) is not None]
        good = 0
        for row, printed in cells:
            share, possible = nearest_share(printed, n)
            good += possible
            if not possible:
                verdict = f"no whole number of {n} questions"
                nearest = share.quantize(Decimal("0.01"))
                found.append(Finding("granularity", title(table), label(row), column, printed, nearest, verdict))
        if good:
            what = f"{good} of {len(cells)} rows"
            found.append(Finding("granularity", title(table), what, column, f"shares of {n}", None, AGREES))
    return found


def constant_answers(table: str, rows: Sequence[Row], constant: Mapping[str, Decimal] = CONSTANT) -> list[Finding]:
    """Accuracies below what one and the same answer to every question gives; the others are counted in one line."""
    found, good, cells = [], 0, 0
    for row in rows:
        for column, least in constant.items():
            printed = number(row.get(column, ""))
            if printed is not None:
                below = printed + unit(printed) <= least  # also if the printed number was cut, not rounded
                cells, good = cells + 1, good + (not below)
                if below:
                    verdict = "below a constant answer"
                    found.append(Finding("constant answer", title(table), label(row), column, printed, least, verdict))
    if good:
        where = f"{good} of {cells} cells"
        found.append(Finding("constant answer", title(table), where, "tasks", "above a constant answer", None, AGREES))
    return found

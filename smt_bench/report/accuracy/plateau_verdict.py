"""Whether methods reach a plateau, as a table: slope, last step and the decision on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from smt_bench.evidence.cells import Cells, common_tasks, groups
from smt_bench.evidence.decisions import OPEN, WITHIN, Decision, margins
from smt_bench.evidence.group import keys_of
from smt_bench.evidence.interval import Estimate
from smt_bench.evidence.plateaus import Plateau, plateaus
from smt_bench.evidence.words import percent, title
from smt_bench.records.store import Record
from smt_bench.report import notes
from smt_bench.report.accuracy.claims import DIGITS, missed, p_value, sources
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table

_SLOPES = {"ahead": "rises", WITHIN: "flat", "behind": "falls"}


def plateau_table(records: Iterable[Record] | Cells, model: str) -> Table | None:
    """One row per method and quantity; None where no method has two fractions.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for prefix, what in (("", "accuracy, points"), ("nll_", "held-out NLL, nats (turned)")):
        for p in plateaus(found, heldout=bool(prefix)):
            rows.append(
                [what, title(p.method), _span(p), str(p.step.seeds), *_shown(p.slope, p.slope_decision, prefix)]
            )
            rows[-1] += [_slope_word(p.slope_decision), *_shown(p.step, p.step_decision, prefix), _said(p, prefix)]
            line: dict[str, Cell] = {"quantity": "heldout_nll" if prefix else "accuracy", "method": p.method}
            line |= {"from_pct": p.cells[0].fraction_pct, "to_pct": p.cells[-1].fraction_pct, "n_seeds": p.step.seeds}
            for name, e, d in (("slope", p.slope, p.slope_decision), ("step", p.step, p.step_decision)):
                low, high = e.interval() or (None, None)
                line |= {name: e.value, f"{name}_low": low, f"{name}_high": high, f"{name}_p": d.p}
                line |= {f"{name}_p_within": d.p_within, f"{name}_smallest": d.smallest}
            data.append(line | {"verdict": p.verdict, "keys": keys_of(p.cells)})
    if not rows:
        return None
    m = margins()
    lines = [
        "Slope: gain per doubling of the trainable fraction (least squares over log2 of it, all fractions of the row). "
        "Last step: the largest fraction minus the one before. Positive is better, of NLL too (its sign is turned).",
        "[low, high]: 95 % over new seeds and new examples; p: two-sided, of none. Exploratory: slopes, and last steps, are "
        "corrected over the methods (Benjamini and Hochberg); what the paper claims is judged in table3_claims.md.",
        f"Verdict: plateau where the last step is within ± {m.points:g} point{'' if m.points == 1 else 's'} (± "
        f"{m.nats:g} nats; 90 % interval), still gains or loses where its 95 % interval leaves out 0, else it cannot be "
        "told: in brackets the smallest step that these seeds and examples find with 80 % power, before the "
        "correction. A step that cannot be told is no plateau.",
        *sources(found, common_tasks(found)),
        *notes.losses(found),
    ]
    header = [
        "quantity",
        "method",
        "fractions",
        "seeds",
        "slope per doubling",
        "p",
        "slope",
        "last step",
        "p (step)",
        "verdict",
    ]
    return Table(f"Does accuracy go on rising with trainable parameters? {model}", header, rows, lines, data)


def plateau_line(found: Cells) -> list[str]:
    """The verdicts on accuracy in a sentence; nothing without two fractions."""
    said: Sequence[str] = [f"{title(p.method)} {p.verdict}" for p in plateaus(found)]
    return [f"From the last fraction but one to the last: {', '.join(said)} (table3_plateau.md)."] if said else []


def _span(p: Plateau) -> str:
    fractions = [g.fraction_pct or 0.0 for g in p.cells]
    return f"{percent(fractions[0])} to {percent(fractions[-1])}"


def _shown(e: Estimate, d: Decision, prefix: str) -> tuple[str | None, str | None]:
    return written(e.value, DIGITS[prefix], None, e.interval(), signed=True), p_value(d.p)


def _slope_word(d: Decision) -> str:
    return _SLOPES.get(d.zone, OPEN)


def _said(p: Plateau, prefix: str) -> str:
    smallest = p.step_decision.smallest
    open_ = p.step_decision.zone == OPEN and smallest is not None
    return f"{p.verdict} ({missed(smallest, DIGITS[prefix])})" if open_ and smallest is not None else p.verdict

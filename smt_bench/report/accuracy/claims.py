"""The papers' claims about a table: which cells each is about, the printed difference, our evidence, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.evidence.cells import Group, common_tasks
from smt_bench.evidence.claims import Sheet, Weighed
from smt_bench.evidence.decisions import OPEN, UNMEASURED
from smt_bench.evidence.pairs import PREFIXES, Comparison, told
from smt_bench.evidence.stats import one_more
from smt_bench.evidence.verdicts import short_rule, tally
from smt_bench.evidence.words import percent
from smt_bench.report import notes
from smt_bench.report.conditions import parts
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table

DIGITS = {"": 1, "nll_": 4}
INTERVAL = (
    "[low, high]: 95 % over new seeds and new examples (examples of one source together, seeds unpaired; Student t)."
)
MISSED = (
    "Where it cannot be told: the smallest difference that these seeds and examples find with 80 % power after the "
    "correction, and how many seeds per row the printed difference would need (more test examples: no number of seeds "
    "on these would do)."
)


def verdict_lines(judged: Sequence[Weighed], name: str) -> list[str]:
    """The verdict on a whole table, and where its claims stand one by one; nothing without claims."""
    if not judged:
        return []
    theirs = [w for w in judged if not w.claim.control]
    if not theirs:
        return [
            f"No verdict: the rows of the paper's claims were not run. Controls in {name}_claims.md. {short_rule()}"
        ]
    lines = []
    for what, prefix in (("accuracy", ""), ("held-out NLL", "nll_")):
        verdicts = [w.verdict(prefix) for w in theirs if not _lacks(w, prefix)]
        lines += [f"Verdict on {what}: {tally(verdicts)}."] if verdicts else []
    return [*lines, f"Claim by claim in {name}_claims.md. {short_rule()}"]


def _lacks(w: Weighed, prefix: str) -> bool:
    """Whether a claim is on the other measure alone: there is a number of that, and none of this."""
    (other,) = (p for p in PREFIXES if p != prefix)
    return w.decisions[prefix].why == UNMEASURED != w.decisions[other].why


def claims_table(found: Sequence[Group], model: str, sheet: Sheet, judged: Sequence[Weighed]) -> Table:
    """The claims one by one: the printed difference, ours with its interval, the corrected p values and the verdicts."""
    tasks = common_tasks(found)
    marked = bool(notes.overlapping(found) & set(tasks))
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for w in judged:
        a, b = w.comparison.a, w.comparison.b
        share = "" if a.fraction_pct is None else percent(a.fraction_pct)
        if a.fraction != b.fraction:
            share = " / ".join("all" if g.fraction_pct is None else percent(g.fraction_pct) for g in (a, b))
        line = w.comparison.row()
        points, nats = versus(line, "", 1), versus(line, "nll_", 4)
        if points is not None and marked and (a.trains or b.trains):
            points += notes.OVERLAP_MARK
        text = ("control: " if w.claim.control else "") + w.claim.text
        shown = None if w.printed is None else f"{w.printed:+.1f}"
        rows.append([text, f"{w.claim.ahead} − {w.claim.behind}", share, str(line["n_seeds"]), shown])
        rows[-1] += [points, p_value(w.decisions[""].p), _said(w, "")]
        rows[-1] += [nats, p_value(w.decisions["nll_"].p), _said(w, "nll_")]
        kind: dict[str, Cell] = {name: getattr(w.claim, name) for name in ("equal", "denied", "control")}
        cells = {
            "ahead": w.claim.ahead,
            "behind": w.claim.behind,
            "ahead_pct": a.fraction_pct,
            "behind_pct": b.fraction_pct,
        }
        for prefix in PREFIXES:
            line |= told(prefix, w.decisions[prefix]) | {f"{prefix}verdict": w.verdict(prefix)}
        for name in ("method", "versus", "fraction_pct", "versus_fraction_pct"):
            del line[name]
        data.append(
            {"claim": w.claim.text, **kind, **cells, "printed_difference": w.printed, "seeds_needed": w.seeds, **line}
        )
    header = ["claim", "difference", "trainable", "seeds", "printed, points", "ours, points", "p", "verdict"]
    header += ["ours, nats", "p (NLL)", "verdict on held-out NLL"]
    lines = [
        f"Printed: {sheet.source or 'no number'}, single runs. Points of accuracy: positive favours the first; nats per "
        "held-out response token: negative does. Seeds: the fewest of a row that trains.",
        INTERVAL,
        "p: two-sided, of no difference (claims of no difference: of none beyond the margin), corrected.",
        MISSED,
        short_rule(),
        *parts(found),
        *sources(found, tasks),
        *notes.overlap(found, tasks),
        *notes.losses(found),
    ]
    return Table(f"Claims: {sheet.heading}, {model}", header, rows, lines, data)


def _said(w: Weighed, prefix: str) -> str:
    """The verdict, and where it cannot be told what could be."""
    if _lacks(w, prefix):
        return ""
    decision, text = w.decisions[prefix], w.verdict(prefix)
    if decision.zone != OPEN or decision.smallest is None:
        return text
    apart = missed(decision.smallest, DIGITS[prefix])
    if not prefix and w.printed:
        needs = "more test examples" if w.seeds is None else f"{w.seeds} seeds"
        apart += f"; {w.printed:+.1f} needs {needs}"
    return f"{text} ({apart})"


def missed(smallest: float, digits: int) -> str:
    """The smallest difference that is found with 80 % power, rounded up."""
    step = 10.0**-digits
    return f"80 % power at {-(-smallest // step) * step:.{digits}f}"


def p_value(p: float | None) -> str | None:
    """E.g. "0.031", "4e-05"; None where there is none."""
    return None if p is None else f"{p:.3f}" if p >= 0.001 else f"{p:.0e}" if p >= 1e-12 else "below 1e-12"


def sources(found: Sequence[Group], tasks: Sequence[str]) -> list[str]:
    """What examples go back to, or that nobody knows."""
    group = next((g for g in found if g.done), None)
    side = None if group is None else group.answers.side(tasks)
    if group is None or side is None:
        return []
    if not group.answers.sourced(tasks):
        return ["Which examples share a source is not known (older records): every example stands for itself."]
    return [
        f"{side.items.cluster_N.size:,} test examples go back to {side.items.stratum_G.size:,} sources (facts, passages, twins)."
    ]


def versus(line: Mapping[str, Any], prefix: str, digits: int) -> str | None:
    """A difference with its interval, e.g. "+4.2 [+2.8, +5.5]"; None without one."""
    low, high = line[f"{prefix}low"], line[f"{prefix}high"]
    between = None if low is None else (low, high)
    return written(line[f"{prefix}difference"], digits, None, between, signed=True)


def against(comparison: Comparison | None) -> dict[str, Any]:
    """The columns of a comparison with the row of reference; blank without one."""
    names = [f"{prefix}{name}" for prefix in PREFIXES for name in ("difference", "low", "high")]
    return dict.fromkeys(names) if comparison is None else {name: comparison.row()[name] for name in names}


PUBLISHED = (
    "Ours − published: ± is the 95 % interval for one more run of ours (t s √(1 + 1/seeds)), since the printed number "
    "is one run; it stands on the same test examples, so that these add nothing. None with one seed."
)
LIMITED = (
    "Ours − published: ± is the 95 % interval for one more run of ours, since the printed number is one run (t s √(1 + "
    "1/seeds)), and for other test examples, since ours are as many of every task: part of them. None with one seed."
)


def limited(group: Group, tasks: Sequence[str]) -> bool:
    """Whether the test sets were cut: no two whole ones that are compared with printed numbers have one size, cut ones do."""
    sizes = [group.done[0]["evaluation"][t]["n"] for t in tasks] if group.done else []
    return len(set(sizes)) < len(sizes)


def minus_published(group: Group, tasks: Sequence[str], all_tasks: Sequence[str], printed: float | None) -> str | None:
    """Our accuracy minus the printed one, a single run without an interval; None where either is missing.

    Args:
        group: our runs.
        tasks: that the number is about.
        all_tasks: of the table.
        printed: the paper's number (%).

    Returns:
        E.g. "+0.4 ± 1.2".
    """
    if printed is None or not group.done or not tasks:
        return None
    values = group.answers.accuracies(tasks)
    variance = 0.0
    if limited(group, all_tasks):
        stderr = group.answers.over_examples(tasks)
        variance = 0.0 if stderr is None else stderr**2
    return written(sum(values) / len(values) - printed, 1, one_more(values, variance), signed=True)

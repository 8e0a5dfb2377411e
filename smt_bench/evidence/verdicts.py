"""Does a claim of the papers hold here? One rule for all tables, from the one decision on every comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smt_bench.evidence.decisions import (
    AHEAD,
    INTERIM,
    OPEN,
    UNMEASURED,
    WITHIN,
    Decision,
    decide,
    holm,
    is_interim,
    margins,
)
from smt_bench.evidence.interval import Estimate

HOLDS, REFUTED = "holds", "does not hold"


def rule() -> str:
    """How verdicts are found, in sentences, with the margins in use."""
    m = margins()
    return (
        f"Decisions: within the margin (90 % interval within ± {m.points:g} point{'' if m.points == 1 else 's'} of accuracy, "
        f"± {m.nats:g} nats of NLL), else ahead or behind (95 % interval leaves out 0), else it cannot be told; never "
        "from one seed. A claim that one row is ahead holds where it is ahead and does not hold where it is behind or "
        "within the margin; a claim that it is not, the other way round; a claim of no difference holds within the "
        "margin and does not hold where the difference is beyond it. The p values of all claims of the paper on this "
        "table are corrected together (Holm, 5 % for differences and for equalities, for accuracy and for NLL), those "
        "of its controls likewise."
    )


def short_rule() -> str:
    """The margins in use, and where the rule stands in full."""
    m = margins()
    return (
        f"Margins: {m.points:g} point{'' if m.points == 1 else 's'} of accuracy, {m.nats:g} nats of NLL; how a claim is judged: "
        "docs/statistics.md."
    )


@dataclass(frozen=True)
class Claim:
    """One statement about two rows of a table.

    Attributes:
        text: the statement, with the paper's place.
        ahead: label of the row said to be better.
        behind: label of the other row.
        equal: the statement is that there is no difference.
        denied: the statement is that the first row is not ahead.
        control: not the paper's statement: it has a verdict, but none on the table.
    """

    text: str
    ahead: str
    behind: str
    equal: bool = False
    denied: bool = False
    control: bool = False


def verdict(decision: Decision, equal: bool = False, denied: bool = False) -> str:
    """What a decision says of a claim; of one of no difference it must have been made with `beyond`."""
    if decision.zone == OPEN:
        return f"{OPEN} ({decision.why})" if decision.why else OPEN
    told = decision.zone == (WITHIN if equal else AHEAD)
    return HOLDS if told != denied else REFUTED


def judge(estimates: Sequence[Estimate | None], margin: float, shown: Callable[[float], str]) -> list[str]:
    """Verdicts on a family of claims that something is above 0, of which estimates are known.

    Args:
        estimates: corrected together.
        margin: the smallest difference that matters.
        shown: how a difference is written, beside what cannot be told: the smallest that is found with 80 % power.
    """
    made = []
    for decision in decide(estimates, margin, holm):
        text = verdict(decision)
        found = decision.zone == OPEN and decision.smallest is not None
        made.append(
            f"{text} (80 % power at {shown(decision.smallest)})" if found and decision.smallest is not None else text
        )
    return made


def unanimous(votes: Sequence[bool]) -> str:
    """The verdict where seeds vote, a count having no interval: all have to agree, and one decides nothing."""
    if votes and is_interim():
        return f"{OPEN} ({INTERIM})"
    if len(votes) < 2:
        return f"{OPEN} ({'one seed' if votes else 'no pair of runs'})"
    return OPEN if len(set(votes)) > 1 else HOLDS if votes[0] else REFUTED


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on a table: refuted by one claim, upheld by all."""
    if REFUTED in verdicts:
        return REFUTED
    return HOLDS if verdicts and all(v == HOLDS for v in verdicts) else OPEN


def tally(verdicts: Sequence[str]) -> str:
    """In words for whoever reads a table for the first time, e.g. "9 of 17 claims hold; 3 do not hold, 5 cannot be told"."""
    measured = [v for v in verdicts if not v.endswith(f"({UNMEASURED})")]
    if measured and all(v.endswith(f"({INTERIM})") for v in measured):
        return f"none yet on {len(verdicts)} claim{'s' if len(verdicts) > 1 else ''}: declared runs are missing"
    counts = {word: sum(v.startswith(word) for v in verdicts) for word in (HOLDS, REFUTED, OPEN)}
    hold, total = counts[HOLDS], len(verdicts)
    if total == 1:
        return f"the claim {verdicts[0]}" if not counts[OPEN] else verdicts[0].replace(OPEN, f"the claim {OPEN}", 1)
    lead = (
        f"{hold or 'none'} of {total} claims hold{'' if hold > 1 else 's'}"
        if hold < total
        else f"all {total} claims hold"
    )
    rest = [f"{n} do{'es' if n == 1 else ''} not hold" for n in (counts[REFUTED],) if n]
    rest += [f"{n} cannot be told" for n in (counts[OPEN],) if n]
    return f"{lead}; {', '.join(rest)}" if rest else lead

"""Does a claim of the papers hold here? One rule for all tables, from intervals over seeds and over examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench.evidence.cells import Group
from smt_bench.evidence.pairs import FEWEST_DISCORDANT, FEWEST_HELDOUT, FEWEST_ITEMS, compare, few_heldout, few_items

HOLDS, REFUTED, OPEN = "holds", "does not hold", "cannot be told at this scale"
POINTS, NATS = 1.0, 0.01  # the smallest differences that matter: of accuracy (points), of held-out NLL (per token)
RULE = (
    "Verdicts: a claim that one row is ahead holds where the 95 % intervals over seeds (Student t, differences of equal "
    f"seeds) and over examples (paired bootstrap) both lie above 0, and does not hold where both lie below {POINTS:g} point "
    f"(NLL: {NATS:g} nats); a claim that it is not ahead, the other way round; a claim of no difference holds where both lie "
    f"within ± {POINTS:g} point ({NATS:g} nats) and does not hold where both lie beyond. Everything else cannot be told at "
    f"this scale, nor can anything from one seed, from fewer than {FEWEST_ITEMS} test ({FEWEST_HELDOUT} held-out) examples, or "
    f"a difference where fewer than {FEWEST_DISCORDANT} examples were answered differently. Not corrected for the number of "
    "claims."
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


def judge(intervals: Sequence[tuple[float, float]], n_seeds: int, matters: float, equal: bool = False) -> str:
    """The verdict on a difference of which `intervals` (low, high) are known; positive favours the claim.

    Args:
        intervals: all have to agree.
        n_seeds: seeds behind them; one seed decides nothing.
        matters: the smallest difference that matters.
        equal: whether the claim is that there is none.
    """
    if n_seeds < 2:
        return f"{OPEN} (one seed)" if n_seeds else f"{OPEN} (no pair of runs)"
    low, high = min(i[0] for i in intervals), max(i[1] for i in intervals)
    if equal:
        if -matters < low and high < matters:
            return HOLDS
        return REFUTED if low > matters or high < -matters else OPEN
    if low > 0:
        return HOLDS
    return REFUTED if high < matters else OPEN


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on a table: refuted by one claim, upheld by all."""
    if REFUTED in verdicts:
        return REFUTED
    return HOLDS if verdicts and all(v == HOLDS for v in verdicts) else OPEN


def tally(verdicts: Sequence[str]) -> str:
    """E.g. "does not hold (3 claims: 1 holds, 2 cannot be told)"."""
    counts = {word: sum(v.startswith(word) for v in verdicts) for word in (HOLDS, REFUTED, OPEN)}
    words = [
        f"{counts[HOLDS]} hold{'s' if counts[HOLDS] == 1 else ''}",
        f"{counts[REFUTED]} do{'es' if counts[REFUTED] == 1 else ''} not hold",
        f"{counts[OPEN]} cannot be told",
    ]
    shown = [text for text, n in zip(words, counts.values()) if n]
    return f"{overall(verdicts)} ({len(verdicts)} claim{'s' if len(verdicts) > 1 else ''}: {', '.join(shown)})"


def weigh(claim: Claim, a: Group, b: Group, tasks: Sequence[str]) -> dict[str, Any]:
    """The evidence on a claim about two cells, and the verdicts; columns as in `comparisons.verdicts`.

    `difference` and its intervals favour the first row where they are positive, `nll_difference` where it is negative.
    """
    row = compare(a, b, tasks)
    for prefix, matters, sign in (("", POINTS, 1), ("nll_", NATS, -1)):
        verdict = _verdict(row, prefix, matters, sign, claim.equal)
        row[f"{prefix}verdict"] = {HOLDS: REFUTED, REFUTED: HOLDS}.get(verdict, verdict) if claim.denied else verdict
    return row


def _verdict(row: dict[str, Any], prefix: str, matters: float, sign: int, equal: bool) -> str:
    centre, low, high = (row[f"{prefix}{name}"] for name in ("difference", "low", "high"))
    if centre is None:
        return f"{OPEN} (no number)"
    half = row[f"{prefix}seeds_ci95"]
    intervals = [(low, high)] + ([] if half is None else [(centre - half, centre + half)])
    turned = [(lo, hi) if sign > 0 else (-hi, -lo) for lo, hi in intervals]
    verdict = judge(turned, row["n_seeds"], matters, equal)
    told = verdict == (REFUTED if equal else HOLDS)  # that there is a difference
    few = few_heldout(row) if prefix else few_items(row, difference=told)
    return f"{OPEN} ({few})" if few and verdict in (HOLDS, REFUTED) else verdict

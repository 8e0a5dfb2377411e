"""One decision per comparison: ahead, within the margin, behind, or it cannot be told.

- Within the margin: the 90 % interval lies between -margin and +margin (two one-sided tests at 5 %, Schuirmann 1987).
- Ahead, behind: else, the 95 % interval leaves out 0 (two-sided t test at 5 %).
- Cannot be told: neither. One seed, or too few examples, never decide anything.

Being within the margin is asked first, so that no interval is ever both: [+0.2, +0.8] points is within 1 point. Of the wrong
ways to decide a truth leaves open only one (a difference of 0: ahead or behind; one of a margin or more: within; in between:
neither but the wrong sign), so that a comparison is decided wrongly in at most 5 % of cases.

Several comparisons are corrected together: p values of difference among themselves and those of being within the margin among
themselves, claims by Holm (1979; wrong differences in 5 % of tables at most, wrong equalities likewise), exploratory ones by
Benjamini and Hochberg (1995; 5 % of those named). Claims wait for the last run that was declared beforehand, and their p values
count once for every look at them (Bonferroni; `looking`): seeds added after a look are one chance more to find a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, stdtrit

from smt_bench.evidence.interval import Estimate, Parts

AHEAD, WITHIN, BEHIND, OPEN = "ahead", "within the margin", "behind", "cannot be told"
ALPHA, POWER = 0.05, 0.8
FEWEST = 10  # sources of examples; below, an interval has hardly anything to judge its own width by
MOST_SEEDS = 1000  # more nobody runs
Correction = Callable[[Sequence[float]], list[float]]


@dataclass(frozen=True)
class Margins:
    """The smallest differences that matter: of accuracy (points), of held-out NLL (nats per token).

    Raises:
        ValueError: not above 0.
    """

    points: float = 1.0
    nats: float = 0.01

    def __post_init__(self) -> None:
        for option, value in (("--margin-points", self.points), ("--margin-nats", self.nats)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{option} {value:g}: choose a number above 0")


_MARGINS = ContextVar("margins", default=Margins())  # noqa: B039  # frozen


def margins() -> Margins:
    """Those in use."""
    return _MARGINS.get()


@contextmanager
def using(chosen: Margins) -> Iterator[None]:
    """Other margins for what is rendered inside."""
    token = _MARGINS.set(chosen)
    try:
        yield
    finally:
        _MARGINS.reset(token)


UNMEASURED = "no number"  # why a comparison stays open of which there is none
INTERIM = "interim"  # why claims stay open while runs that were declared beforehand are not there yet
_LOOKS: ContextVar[int] = ContextVar("looks", default=1)


@contextmanager
def looking(looks: int) -> Iterator[None]:
    """Claims inside are judged for the so-manieth time, seeds having been added in between.

    Args:
        looks: this one counted; 0: declared runs are missing, and no claim is decided.
    """
    token = _LOOKS.set(looks)
    try:
        yield
    finally:
        _LOOKS.reset(token)


def is_interim() -> bool:
    """Whether claims are withheld."""
    return _LOOKS.get() == 0


def strictest(claims: int) -> float:
    """The level at which a claim is told ahead that needs the correction most: by the number of claims and of looks."""
    return ALPHA / (claims * max(1, _LOOKS.get()))


@dataclass(frozen=True)
class Decision:
    """What is said of a comparison.

    Attributes:
        zone: `AHEAD`, `WITHIN`, `BEHIND` or `OPEN`.
        why: what keeps it open but the numbers; empty: these.
        p: corrected, two-sided, of "no difference" ("none beyond the margin" where that was asked); None without an interval.
        p_within: corrected, of "a difference of the margin or more"; None without an interval.
        smallest: the smallest difference that this design finds with `POWER`; None without an interval.
    """

    zone: str
    why: str = ""
    p: float | None = None
    p_within: float | None = None
    smallest: float | None = None


def decide(
    estimates: Sequence[Estimate | None],
    margin: float,
    correction: Correction,
    beyond: Sequence[bool] = (),
    sources: Sequence[int | None] = (),
) -> list[Decision]:
    """Decisions on a family of comparisons.

    Args:
        estimates: positive favours the first; None: nothing to compare.
        margin: the smallest difference that matters.
        correction: `holm` or `benjamini_hochberg`.
        beyond: where a difference only counts if it is beyond the margin (what refutes "as good as").
        sources: how many of examples stand behind each, where it is about examples.
    """
    beyond = beyond or [False] * len(estimates)
    counts: Sequence[int | None] = sources or [None] * len(estimates)
    withheld = correction is holm and is_interim()
    reasons = [INTERIM if withheld and e is not None else _why(e, n) for e, n in zip(estimates, counts)]
    told = [i for i, why in enumerate(reasons) if not why]
    known: list[Estimate] = [e for i in told if (e := estimates[i]) is not None]
    p = correction([p_difference(e, margin if beyond[i] else 0.0) for i, e in zip(told, known)])
    within = correction([p_within(e, margin) for e in known])
    made = [Decision(OPEN, why) for why in reasons]
    looks = _LOOKS.get() if correction is holm else 1
    # Of claims the strictest step of the correction, of exploratory ones the test by itself.
    alpha = strictest(len(told)) if told and correction is holm else ALPHA
    for i, e, p_once, within_once in zip(told, known, p, within):
        p_i, within_i = min(1.0, looks * p_once), min(1.0, looks * within_once)
        zone = OPEN
        if within_i <= ALPHA:
            zone = WITHIN
        elif p_i <= ALPHA:
            zone = AHEAD if e.value > 0 else BEHIND
        made[i] = Decision(zone, "", p_i, within_i, smallest(e, alpha))
    return made


def _why(e: Estimate | None, sources: int | None) -> str:
    if e is None:
        return UNMEASURED
    if e.seeds is not None and e.seeds < 2:
        return "one seed" if e.seeds else "no pair of runs"
    if sources is not None and sources < FEWEST:
        return f"{sources} examples that share no source"
    return "no spread to judge by" if e.se is None else ""


def p_difference(e: Estimate, beyond: float = 0.0) -> float:
    """Two-sided p value of "the difference is at most `beyond`, either way"."""
    return min(1.0, 2 * min(e.p_below(beyond), e.p_above(-beyond)))


def p_within(e: Estimate, margin: float) -> float:
    """P value of "the difference is `margin` or more, either way": the larger of two one-sided ones."""
    return max(e.p_above(margin), e.p_below(-margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values that keep the chance of any wrong rejection (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    made = np.empty_like(p)
    made[order] = np.minimum(np.maximum.accumulate(p[order] * (p.size - np.arange(p.size))), 1.0)
    return [float(value) for value in made]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values that keep the share of wrong rejections among all (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control  # takes a third of a second to import

    if not p_values:
        return []
    adjusted: NDArray[np.float64] = false_discovery_control(np.asarray(p_values, dtype=float))
    return [float(value) for value in adjusted]


def _smallest(se: float, df: float, alpha: float) -> float:
    """The true difference at which a two-sided t test has `POWER`; the other tail does not count."""
    return float(nctdtrinc(df, 1 - POWER, stdtrit(df, 1 - alpha / 2))) * se


def smallest(e: Estimate, alpha: float = ALPHA) -> float | None:
    """The smallest difference that the design behind an estimate finds with `POWER`."""
    return None if e.se is None else _smallest(e.se, e.df, alpha)


def smallest_at(parts: Parts, seeds: int, alpha: float = ALPHA) -> float:
    """The same for so many seeds (two or more) in every cell."""
    return _smallest(*parts.at(seeds), alpha)


def equal_at(parts: Parts, seeds: int, alpha: float = ALPHA) -> float:
    """The smallest margin within which a true difference of 0 is told to lie with `POWER`, for so many seeds in every cell.

    (t_{1 - alpha} + t_{(1 + POWER) / 2}) standard errors: both one-sided tests have to reject (Chow, Shao, Wang, section 3.2).
    """
    se, df = parts.at(seeds)
    return float(stdtrit(df, 1 - alpha) + stdtrit(df, (1 + POWER) / 2)) * se


def seeds_needed(
    parts: Parts | None, effect: float, alpha: float = ALPHA, reached: Callable[..., float] = smallest_at
) -> int | None:
    """The fewest seeds with which `effect` is found with `POWER`; None: no number of them, items are too few.

    Args:
        parts: of the variance.
        effect: the difference, or the margin.
        alpha: of the test.
        reached: `smallest_at`, or `equal_at` for a difference of 0 within the margin.
    """
    if parts is None or effect == 0 or reached(parts, MOST_SEEDS, alpha) > abs(effect):
        return None
    low, high = 1, MOST_SEEDS  # low does not do, high does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(parts, middle, alpha) <= abs(effect) else (middle, high)
    return high

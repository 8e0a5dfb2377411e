"""How far two runs of the same thing are apart, and which printed differences are smaller than that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from smt_bench.audit.finding import AGREES, UNKNOWN, Finding
from smt_bench.audit.printed import Cell, Row, Tables, cell, find_row, number, tasks_of, title

# Sum and mean of the same absolute values differ by the number of values, 256² = 2¹⁶ for every block: a power of two, so
# that not even rounding in bf16 can change the order of the blocks.
METRICS = "smt_table7_block_metric"
EQUAL_RANKS = ("abs_mean", "abs_sum")


def equal_rankings(table: str, rows: Sequence[Row], pair: tuple[str, str] = EQUAL_RANKS) -> list[Finding]:
    """Two metrics that must rank blocks of equal size identically, hence are one configuration run twice.

    Every difference is run-to-run noise, and a lower bound on it: two runs show a part of the spread only.
    """
    one, two = (find_row(rows, (("metric", name),)) for name in pair)
    if one is None or two is None:
        return []
    found = []
    for column in (*tasks_of(one), "avg"):
        a, b = number(one[column]), number(two[column])
        if a is not None and b is not None:
            verdict = AGREES if a == b else f"noise of at least {abs(a - b)}"
            found.append(Finding("noise", title(table), " and ".join(pair), column, f"{a} and {b}", "equal", verdict))
    return found


def rank_conflict(one: Sequence[int], two: Sequence[int]) -> Finding:
    """Two blocks of gradients that squares (Fisher) and absolute values rank differently, against the claim that none are.

    Appendix B.1 calls the two sums "mathematically equivalent".
    """
    absolute = [sum(map(abs, block)) for block in (one, two)]
    squared = [sum(g * g for g in block) for block in (one, two)]
    conflict = (absolute[0] - absolute[1]) * (squared[0] - squared[1]) < 0
    shown = f"{tuple(one)} and {tuple(two)}: {absolute[0]} and {absolute[1]}, squares {squared[0]} and {squared[1]}"
    verdict = "not equivalent" if conflict else AGREES
    says, about = '"mathematically equivalent"', "ranks of two blocks of gradients"
    return Finding("statement", "SMT appendix B.1", says, about, "equivalent", shown, verdict)


def bound(rows: Sequence[Row], pair: tuple[str, str] = EQUAL_RANKS) -> Decimal | None:
    """The lower bound on the noise of the printed average, in points; None where the table does not tell."""
    averages = [cell("t", metric=name).find({"t": rows}) for name in pair]
    one, two = averages
    return None if one is None or two is None else abs(one - two)


@dataclass(frozen=True)
class Rivals:
    """Two printed numbers whose difference is read as a result.

    Attributes:
        what: for people, the higher one first.
        better: the higher one.
        others: the best of these is what it is compared with.
        same_setting: whether the noise was measured in this very setting (LLaMA-7B, commonsense).
    """

    what: str
    better: Cell
    others: tuple[Cell, ...]
    same_setting: bool = True


def within_noise(tables: Tables, pairs: Iterable[Rivals], least: Decimal) -> list[Finding]:
    """Differences between single runs against the lower bound on the noise.

    Outside the setting in which the noise was measured a larger difference is "cannot be told".
    """
    found = []
    for pair in pairs:
        value = pair.better.find(tables)
        others = [v for c in pair.others if (v := c.find(tables)) is not None]
        if value is None or not others:
            continue
        difference = value - max(others)
        if abs(difference) <= least:
            verdict = "within the noise" + ("" if pair.same_setting else " of table 7's setting")
        else:
            verdict = f"{AGREES}: above the bound" if pair.same_setting else f"{UNKNOWN}: noise known for LLaMA-7B only"
        where = title(pair.better.table)
        found.append(Finding("difference and noise", where, pair.what, pair.better.column, difference, least, verdict))
    return found

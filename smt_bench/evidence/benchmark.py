"""A benchmark of the statistics: what intervals cover and how often verdicts are wrong, on draws of which the truth is known.

An answer is right where a sum of normal variables is above 0: the cell's level, the run's seed, the item (shared by all
cells; of one source, half of it shared by its items), the item for this cell, the item for this run, and chance. The truth,
over new seeds and new items, is then the normal distribution's, exactly. Sizes as on `tiny`'s plateau: 5 tasks of 100 items,
two per source. Held-out losses are sums over tokens of a level, the same parts (log-normal, so that they are skewed) and chance.

Every row asks for coverage of the 95 % interval between 93 and 97 %, wrong verdicts in at most 5 %, up to the noise of the draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.special import ndtri

from smt_bench.evidence.decisions import AHEAD, BEHIND, WITHIN, Margins, benjamini_hochberg, decide, holm
from smt_bench.evidence.interval import Estimate, contrast
from smt_bench.evidence.sides import Array, Items, Side, accuracies, ratios
from smt_bench.evidence.stats import one_more
from smt_bench.evidence.verdicts import HOLDS, overall, verdict

SEEDS, SEED_SDS = (3, 5, 10), (0.5, 1.0, 2.0, 3.0)  # runs per cell; points
TASKS, PER_TASK, HELDOUT = 5, 100, 200
LEVEL = 0.65  # share of right answers
COMMON, OWN, OWN_RUN = 1.0, 0.4, 0.5  # deviations of items, on the scale on which chance has 1
SHARED = 0.5  # of an item's variance, by its source where sources have several items
EFFECT = 5.0  # points; what power is about
FAMILY = 12  # claims on one table
COVERED, WRONG = (0.93, 0.97), 0.05
MARGINS = Margins()


@dataclass(frozen=True)
class Case:
    """One design.

    Attributes:
        quantity: "accuracy" (points) or "NLL" (hundredths of a nat per token).
        clustered: whether two items come from one source.
        seeds: runs per cell.
        seed_sd: standard deviation over seeds of a run's true value, in those units.
        per_task: test items of every task.
    """

    quantity: str
    clustered: bool
    seeds: int
    seed_sd: float
    per_task: int = PER_TASK


def cases(quick: bool = False) -> Iterator[Case]:
    """All designs, or the corners."""
    for quantity in ("accuracy", "NLL"):
        for clustered in (False, True):
            for seeds in (3, 10) if quick else SEEDS:
                for sd in (0.5, 3.0) if quick else SEED_SDS:
                    yield Case(quantity, clustered, seeds, sd)


def _items(case: Case) -> Items:
    sizes = [case.per_task] * TASKS if case.quantity == "accuracy" else [HELDOUT]
    return Items.of([(np.arange(n) // (2 if case.clustered else 1)).tolist() for n in sizes])


def _effects(rng: Generator, items: Items, clustered: bool, deviation: float) -> Array:
    """One per item, in part shared within a source."""
    own: Array = rng.standard_normal(items.cluster_N.size)
    if clustered:
        own = (
            math.sqrt(1 - SHARED) * own + math.sqrt(SHARED) * rng.standard_normal(items.stratum_G.size)[items.cluster_N]
        )
    return deviation * own


def draw(rng: Generator, case: Case, truths: Sequence[float], runs: int | None = None) -> list[Side]:
    """Cells on the same items, whose true values differ from the usual one by `truths` (in the case's units)."""
    items, runs = _items(case), case.seeds if runs is None else runs
    common = _effects(rng, items, case.clustered, COMMON)
    maker = _accuracy if case.quantity == "accuracy" else _loss
    weights = rng.integers(4, 13, items.cluster_N.size).astype(float)
    return [maker(rng, case, items, common, weights, truth, runs) for truth in truths]


def _accuracy(rng: Generator, case: Case, items: Items, common: Array, _: Array, truth: float, runs: int) -> Side:
    z = float(ndtri(LEVEL + truth / 100))
    spread = math.sqrt(COMMON**2 + OWN**2 + OWN_RUN**2 + 1)
    # A shift of the level by d moves the share of right answers by density(z) d / spread.
    seed_sd = case.seed_sd / 100 * spread * math.sqrt(2 * math.pi) * math.exp(z**2 / 2)
    level = z * math.hypot(spread, seed_sd) + common + _effects(rng, items, case.clustered, OWN)
    right = [
        level
        + seed_sd * rng.standard_normal()
        + _effects(rng, items, case.clustered, OWN_RUN)
        + rng.standard_normal(level.size)
        > 0
        for _ in range(runs)
    ]
    return accuracies(np.split(np.stack(right).astype(float), TASKS, axis=1), items)


def _loss(rng: Generator, case: Case, items: Items, common: Array, weights: Array, truth: float, runs: int) -> Side:
    def skewed(normal: Array) -> Array:
        made: Array = np.exp(0.8 * normal - 0.32) - 1  # of mean 0
        return made

    level = 35 + truth + 20 * skewed(common) + 6 * skewed(_effects(rng, items, case.clustered, 1.0))
    values = [
        weights * (level + case.seed_sd * rng.standard_normal() + 3 * skewed(_effects(rng, items, case.clustered, 1.0)))
        + np.sqrt(weights) * rng.standard_normal(weights.size)
        for _ in range(runs)
    ]
    return ratios(np.stack(values), weights, items)


def _difference(sides: Sequence[Side]) -> Estimate:
    return contrast([(1.0, sides[0]), (-1.0, sides[1])])


def measured(case: Case, draws: int, seed: int = 0) -> dict[str, Any]:
    """Coverage, wrong decisions and power of one design."""
    margin, made = 1.0, []
    for truth in (0.0, margin, EFFECT):
        stream = (seed, case.quantity == "NLL", case.clustered, case.seeds, int(10 * case.seed_sd), int(truth))
        rng = np.random.default_rng(stream)
        found = [_difference(draw(rng, case, (truth / 2, -truth / 2))) for _ in range(draws)]
        zones = [decide([e], margin, holm)[0].zone for e in found]
        made.append((found, zones))
    (null, at_null), (edge, at_edge), (far, at_far) = made
    halves = [e.half() or math.nan for e in null]
    return {
        "quantity": case.quantity,
        "items per source": 2 if case.clustered else 1,
        "seeds": case.seeds,
        "seed_sd": case.seed_sd,
        "coverage": _covered(null, 0.0),
        "coverage_at_effect": _covered(far, EFFECT),
        "half_width": float(np.mean(halves)),
        "wrong_difference": _share(at_null, (AHEAD, BEHIND)),
        "wrong_equality": _share(at_edge, (WITHIN,)),
        "power": _share(at_far, (AHEAD,)),
    }


def _covered(found: Sequence[Estimate], truth: float) -> float:
    return float(np.mean([(i := e.interval()) is not None and i[0] <= truth <= i[1] for e in found]))


def _share(zones: Sequence[str], wanted: Sequence[str]) -> float:
    return float(np.mean([zone in wanted for zone in zones]))


def families(draws: int, seed: int = 0) -> list[dict[str, Any]]:
    """What is wrong, or found, of whole tables, of slopes and of comparisons with a printed run; each with its bound."""
    case = Case("accuracy", True, 5, 2.0)
    made = []

    def said(what: str, bound: str, share: float, ok: bool) -> None:
        made.append({"what": what, "bound": bound, "share": share, "ok": ok})

    def table(truth: float, seeds: int, equal: bool) -> Iterator[tuple[list[str], list[str]]]:
        """The verdicts on a table of claims that the first cell is ahead of (or as good as) each other, and exploratory zones."""
        rng = np.random.default_rng((seed, int(truth), seeds, equal))
        design = Case("accuracy", True, seeds, 2.0)
        for _ in range(draws):
            sides = draw(rng, design, (truth, *[0.0] * FAMILY))
            found = [_difference((sides[0], side)) for side in sides[1:]]
            claims = decide(found, MARGINS.points, holm, [equal] * FAMILY)
            zones = [d.zone for d in decide(found, MARGINS.points, benjamini_hochberg)]
            yield [verdict(d, equal) for d in claims], zones

    worst = _at_most(WRONG, draws)
    null = list(table(0.0, case.seeds, False))
    share = float(np.mean([HOLDS in claims for claims, _ in null]))
    said(f"a table of {FAMILY} claims, all differences 0: some claim holds", "at most 5 %", share, share <= worst)
    share = float(np.mean([bool({AHEAD, BEHIND} & set(zones)) for _, zones in null]))
    said(
        f"exploratory table of {FAMILY} comparisons, all differences 0: some is named ahead",
        "at most 5 %",
        share,
        share <= worst,
    )
    edge = list(table(MARGINS.points, 10, True))
    share = float(np.mean([HOLDS in claims for claims, _ in edge]))
    said(
        f"a table of {FAMILY} claims of no difference, all of the margin: some claim holds",
        "at most 5 %",
        share,
        share <= worst,
    )
    for seeds in (5, 10):
        share = float(np.mean([overall(claims) == HOLDS for claims, _ in table(10.0, seeds, False)]))
        said(
            f"a table of {FAMILY} claims, all differences 10 points, {seeds} seeds: it is upheld", "power", share, True
        )
    large = Case("accuracy", True, 10, 0.5, per_task=2000)
    for truth, what in ((MARGINS.points, "at most 5 %"), (0.0, "power")):
        rng = np.random.default_rng((seed, 2, int(truth)))
        pairs = [_difference(draw(rng, large, (truth, 0.0))) for _ in range(draws)]
        share = _share([d.zone for e in pairs for d in decide([e], MARGINS.points, holm)], (WITHIN,))
        sizes = f"large test sets (5 tasks of {large.per_task:,} items), 10 seeds of 0.5 points"
        text = f"{sizes}, difference {truth:g}: within the margin of 1"
        said(text, what, share, what == "power" or share <= worst)
    rng = np.random.default_rng((seed, 1))
    weights = np.array([-1.5, -0.5, 0.5, 1.5]) / 5  # least squares over log2 of 1, 2, 4, 8 %
    slopes = [contrast(list(zip(map(float, weights), draw(rng, case, (0.0, 1.0, 2.0, 3.0))))) for _ in range(draws)]
    share = _covered(slopes, 1.0)
    said("slope over four fractions: coverage", "93 to 97 %", share, _within(share, draws))
    for seeds in SEEDS:
        inside = _predicted(np.random.default_rng((seed, seeds)), seeds, draws)
        what = f"printed run of equal truth, {seeds} seeds: inside the interval for one more run"
        said(what, "93 to 97 %", inside, _within(inside, draws))
    return made


def _predicted(rng: Generator, seeds: int, draws: int) -> float:
    case = Case("accuracy", True, seeds, 2.0)
    inside = 0
    for _ in range(draws):
        values = draw(rng, case, (0.0,), runs=seeds + 1)[0].value_S
        half = one_more(values[:-1])
        inside += half is not None and abs(values[:-1].mean() - values[-1]) <= half
    return inside / draws


def _noise(p: float, draws: int) -> float:
    """Three standard errors of a share over the draws: there are more than a hundred shares."""
    return 3 * math.sqrt(p * (1 - p) / draws)


def _at_most(bound: float, draws: int) -> float:
    return bound + _noise(bound, draws)


def _within(share: float, draws: int) -> bool:
    low, high = COVERED
    return low - _noise(low, draws) <= share <= high + _noise(high, draws)


def kept(row: dict[str, Any], draws: int) -> bool:
    """Whether a row of `measured` is within its bounds, up to the noise of the draws."""
    wrong = _at_most(WRONG, draws)
    return (
        _within(row["coverage"], draws)
        and _within(row["coverage_at_effect"], draws)
        and row["wrong_difference"] <= wrong
        and row["wrong_equality"] <= wrong
    )


def family_draws(draws: int) -> int:
    """Whole tables take longer."""
    return max(draws // 3, 50)


def run(draws: int, quick: bool = False) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All rows of `measured`, with whether they are within their bounds, and those of `families`."""
    rows = []
    for case in cases(quick):
        row = measured(case, draws)
        rows.append(row | {"ok": kept(row, draws)})
    return rows, families(family_draws(draws))

"""Which differences can be told: paired comparisons of methods, on the same examples and the same seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from smt_bench.evidence.cells import Cells, Group, common_tasks, groups
from smt_bench.evidence.group import Answers
from smt_bench.evidence.stats import RESAMPLES, mean_ci, paired_bootstrap, paired_bootstrap_ratio
from smt_bench.evidence.words import title
from smt_bench.records.store import Record

_UNDECIDED = "no difference can be told"
# Below, intervals are no intervals: five items that all agree give one of width 0. Ten discordant pairs are what McNemar's
# test asks for before its normal approximation; fewer than six cannot even reject equality by a sign test.
FEWEST_ITEMS, FEWEST_DISCORDANT, FEWEST_HELDOUT = 50, 10, 20


def verdicts(
    records: Iterable[Record] | Cells, reference: str, seed: int = 0, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Compares the reference with every other method at the same fraction, and all with the methods without a fraction.

    Per comparison, over the seeds that both sides have: answers are averaged over seeds, examples resampled in pairs.
    A method counts as better where the interval over examples leaves out zero and, with several seeds, the t-interval
    of the differences of equal seeds does so too.

    Args:
        records: of one experiment on one model.
        reference: name of the method in question.
        seed: of the bootstrap.
        resamples: bootstrap samples.

    Returns:
        Columns `method`, `fraction_pct`, `versus`, `versus_fraction_pct`, `difference`, `low`, `high` (points of
        accuracy, 95 % over examples), `seeds_ci95` (half-width over seeds), `n_seeds`, `n_examples`, `nll_difference`,
        `nll_low`, `nll_high`, `nll_seeds_ci95` (nats per token, lower is better), `n_heldout`, `verdict`, `nll_verdict`.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    tasks = common_tasks(found)
    whole = [g for g in found if g.fraction is None and g.trains]
    tunable = [g for g in found if g.fraction is not None]
    mine = [g for g in tunable if g.method == reference]
    pairs = [(a, b) for a in mine for b in tunable if b.fraction == a.fraction and b.method != reference]
    pairs += [(a, b) for b in whole for a in sorted(tunable, key=lambda g: g.method != reference)]
    columns = list(compare(found[0], found[0], tasks, seed, 1))
    return pd.DataFrame([compare(a, b, tasks, seed, resamples) for a, b in pairs], columns=columns)


def compare(a: Group, b: Group, tasks: Sequence[str], seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """One row of `verdicts`: the first cell minus the second, on the examples and seeds that both have."""
    mine, theirs = _paired(a, b)
    row: dict[str, Any] = {
        "method": a.method,
        "fraction_pct": a.fraction_pct,
        "versus": b.method,
        "versus_fraction_pct": b.fraction_pct,
        **dict.fromkeys(("difference", "low", "high", "seeds_ci95")),
        "n_seeds": len(mine),
        "n_examples": None,
        "n_discordant": None,
        **dict.fromkeys(("nll_difference", "nll_low", "nll_high", "nll_seeds_ci95", "n_heldout")),
        "verdict": "",
        "nll_verdict": "",
    }
    if not mine:
        row["verdict"] = f"no result: {' and '.join(_lacking(a, b))}"
        return row
    compared = (b.answers, tuple(tasks), seed, resamples)
    if compared not in a.answers.compared:  # a claim and a table may both ask
        a.answers.compared[compared] = _compared(a.answers, b.answers, mine, theirs, tasks, seed, resamples)
    numbers, seeds, nll_seeds = a.answers.compared[compared]
    row |= numbers
    if row["difference"] is not None:
        told = _text(a, b, row["difference"], row["low"], row["high"], seeds)
        row["verdict"] = few_items(row, difference=told != _UNDECIDED) or told
    if row["nll_difference"] is not None:
        # Lower is better: turned round for the words.
        told = _text(a, b, -row["nll_difference"], -row["nll_high"], -row["nll_low"], [-s for s in nll_seeds])
        row["nll_verdict"] = few_heldout(row) or told
    return row


def _compared(
    a: Answers, b: Answers, mine: list[int], theirs: list[int], tasks: Sequence[str], seed: int, resamples: int
) -> tuple[dict[str, Any], list[float], list[float]]:
    """The numbers of a row of `verdicts`, and the differences of equal seeds: of accuracies, of held-out losses."""
    row: dict[str, Any] = {}
    seeds, nll_seeds = list[float](), list[float]()
    if tasks:
        ours, rivals = a.correctness(tasks, mine), b.correctness(tasks, theirs)
        result = paired_bootstrap(ours, rivals, seed, resamples)
        row |= {name: 100 * result[name] for name in ("difference", "low", "high")} | {"n_examples": result["n"]}
        row["n_discordant"] = sum(int((ours[t] != rivals[t]).sum()) for t in tasks)
        scores = a.accuracies(tasks), b.accuracies(tasks)
        seeds = [scores[0][i] - scores[1][j] for i, j in zip(mine, theirs)]
        row["seeds_ci95"] = mean_ci(seeds)[1]
    parts = a.heldout_parts(mine), b.heldout_parts(theirs)
    if parts[0] is not None and parts[1] is not None:
        result = paired_bootstrap_ratio(parts[0][0], parts[1][0], parts[0][1], seed, resamples)
        row |= {f"nll_{name}": result[name] for name in ("difference", "low", "high")} | {"n_heldout": result["n"]}
        nlls = ((a.nlls[i], b.nlls[j]) for i, j in zip(mine, theirs))
        nll_seeds = [x - y for x, y in nlls if x is not None and y is not None]  # all of them have one
        row["nll_seeds_ci95"] = mean_ci(nll_seeds)[1]
    return row, seeds, nll_seeds


def few_items(row: Mapping[str, Any], difference: bool) -> str | None:
    """Why there are too few test examples for a verdict on accuracy; None where there are enough.

    Args:
        row: of `compare`.
        difference: whether the verdict would be that there is one, which also takes examples that tell the two apart.
    """
    if row["n_examples"] < FEWEST_ITEMS:
        return f"too few examples ({row['n_examples']})"
    if difference and row["n_discordant"] < FEWEST_DISCORDANT:
        return f"{_UNDECIDED} ({row['n_discordant']} examples answered differently)"
    return None


def few_heldout(row: Mapping[str, Any]) -> str | None:
    """The same for held-out examples."""
    return f"too few examples ({row['n_heldout']})" if row["n_heldout"] < FEWEST_HELDOUT else None


def _paired(a: Group, b: Group) -> tuple[list[int], list[int]]:
    """Where the records of equal seeds stand; a side that trains nothing answers the same whatever the seed."""
    mine, theirs = a.by_seed, b.by_seed
    if not a.trains and mine and not a.run["data"].get("varies"):
        mine = dict.fromkeys(theirs, next(iter(mine.values())))
    if not b.trains and theirs and not b.run["data"].get("varies"):
        theirs = dict.fromkeys(mine, next(iter(theirs.values())))
    common = sorted(mine.keys() & theirs.keys())
    return [mine[s] for s in common], [theirs[s] for s in common]


def _lacking(a: Group, b: Group) -> list[str]:
    return [f"{g.label} {g.status}" for g in (a, b) if not g.done] or ["no seed in common"]


def _text(a: Group, b: Group, difference: float, low: float, high: float, seeds: Sequence[float]) -> str:
    if low <= 0 <= high:
        return _UNDECIDED
    text = f"{title((a if difference > 0 else b).method)} better"
    mean, ci = mean_ci(seeds)
    if ci is None:
        return f"{text} (one seed)"
    return text if abs(mean) > ci else f"{text} on these examples, not beyond the spread of seeds"

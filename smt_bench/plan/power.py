"""`plan power EXPERIMENT`: the smallest differences that a design finds, before anything runs.

What a difference of two cells varies by comes from stored records of the same experiment and model where there are any (the
median over pairs of cells), else from stated guesses. More seeds make the part smaller that seeds are behind, never that of
the items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from smt_bench.data.loading import load
from smt_bench.evidence.cells import common_tasks, groups
from smt_bench.evidence.decisions import (
    ALPHA,
    MOST_SEEDS,
    equal_at,
    margins,
    seeds_needed,
    smallest_at,
)
from smt_bench.evidence.interval import Estimate, Parts
from smt_bench.evidence.pairs import compare
from smt_bench.plan.rows import DryPlanner
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.records.index import INDEX, Index, folder
from smt_bench.records.store import Store
from smt_bench.report.table import Cell, Table

SEEDS = (2, 3, 5, 10, 20)
MOST_PAIRS = 200  # of cells that are looked at
TIMES = (1, 10, 100)  # as many test items
# Guesses where nothing is stored: of one run over seeds (points, nats); the share of test items that two methods answer
# differently; how much items of one source widen an interval (variance); a paired held-out loss over one example (nats per
# token).
SEED_SD, DIFFERENT, SHARED, NLL_SEED_SD, NLL_ITEM_SD = 2.0, 0.25, 1.3, 0.007, 0.15
PER_TASK = 1000  # test items where neither a limit nor embedded data say how many


@dataclass(frozen=True)
class Design:
    """What a comparison of two cells varies by.

    Attributes:
        points: of accuracy.
        nats: of held-out NLL; None where there is none.
        source: where both come from.
        items: test items.
    """

    points: Parts
    nats: Parts | None
    source: str
    items: int


def design(experiment: TrainingExperiment, planner: DryPlanner, results: Path) -> Design:
    """From records, else guessed."""
    store = Store(results)
    kept = folder(store, experiment.name, planner.entry.name, planner.family.subfolder)
    if (kept / INDEX).exists():
        stored = _stored(store, Index.read(kept))
        if stored is not None:
            return stored
    return _guessed(planner)


def _stored(store: Store, index: Index) -> Design | None:
    records = [r for r in store.for_tables(index.keys) if "kind" not in r["run"]]
    if not any(r["status"] == "done" for r in records):
        return None
    try:
        found = [g for g in groups(records) if g.trains and len(g.done) > 1]
    except ValueError:  # cells that no table may compare
        return None
    tasks = common_tasks(found)
    pairs = [compare(a, b, tasks) for a, b in list(combinations(found, 2))[:MOST_PAIRS]]
    points, nats = _median([c.accuracy for c in pairs]), _median([c.nll for c in pairs])
    if points is None:
        return None
    return Design(
        points,
        nats,
        f"median over {len(pairs)} pairs of {len(found)} stored cells, {min(c.n_seeds for c in pairs)} seeds or more",
        sum(task["n"] for name, task in found[0].done[0]["evaluation"].items() if name in tasks),
    )


def _median(found: Sequence[Estimate | None]) -> Parts | None:
    parts = [e.parts for e in found if e is not None and e.parts is not None]
    if not parts:
        return None
    per_seed, items = (float(np.median([getattr(p, name) for p in parts])) for name in ("per_seed", "items"))
    return Parts(per_seed, items, float(np.median([p.items_df for p in parts])), 2)


def _guessed(planner: DryPlanner) -> Design:
    names = list(planner.request.tasks)
    limit = planner.request.limit if planner.request.limit is not None else planner.recipe.limit
    if planner.entry.embedded is not None:
        tests = load(None, planner.family.name, names, 0, limit, mixture=planner.mixture).tests
        sizes = [len(examples) for examples in tests.values()]
    else:
        sizes = [limit or PER_TASK] * (len(names) or len(planner.family.tasks))
    total, heldout = sum(sizes), planner.recipe.heldout / 2  # the other half is for choices
    items = 100**2 * DIFFERENT * SHARED / total
    points = Parts(2 * SEED_SD**2, items, max(1.0, total / SHARED), 2)
    nats = None
    if heldout > 1:
        nats = Parts(2 * NLL_SEED_SD**2, NLL_ITEM_SD**2 * SHARED / heldout, heldout / SHARED, 2)
    source = (
        f"guesses: nothing is stored; {total:,} test items, of which two methods answer {100 * DIFFERENT:g} % differently, "
        f"{SEED_SD:g} points over seeds ({NLL_SEED_SD:g} nats), variance of items times {SHARED:g} for shared sources"
    )
    return Design(points, nats, source, total)


def power_table(experiment: TrainingExperiment, planner: DryPlanner, results: Path, effect: float) -> Table:
    """By number of seeds the smallest differences that are found with 80 % power, and how many seeds `effect` (points) needs."""
    found = design(experiment, planner, results)
    family, declared = _family(experiment, planner)
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for seeds in SEEDS:
        line: dict[str, Cell] = {"seeds": seeds}
        for name, parts in (("points", found.points), ("nats", found.nats)):
            for kind, alpha in (("one", ALPHA), ("family", ALPHA / family)):
                line[f"{name}_{kind}"] = None if parts is None else smallest_at(parts, seeds, alpha)
        data.append(line)
        shown = [line[f"{name}_{kind}"] for name in ("points", "nats") for kind in ("one", "family")]
        rows.append([seeds, *(None if v is None else f"{v:.{d}f}" for v, d in zip(shown, (1, 1, 4, 4)))])
    header = [
        "seeds",
        "points, one comparison",
        f"points, {family} comparisons",
        "NLL (nats), one",
        f"NLL (nats), {family} comparisons",
    ]
    needs = [_needs(found.points, effect, alpha) for alpha in (ALPHA, ALPHA / family)]
    lines = [
        f"{effect:g} point{'' if effect == 1 else 's'}: one comparison needs {needs[0]}, the strictest of {family} "
        f"{needs[1]}.",
        "The smallest true difference that is found with 80 % power: two-sided test at 5 %, for several at Holm's strictest "
        f"step; {family}: {declared}.",
        *_larger(found, effect, family),
        f"With any number of seeds {1.96 * math.sqrt(found.points.items):.1f} points stay uncertain (95 %) for the test items.",
        f"Variances: {found.source}.",
    ]
    return Table(f"What {experiment.name} on {planner.entry.name} can tell", header, rows, lines, data)


def _family(experiment: TrainingExperiment, planner: DryPlanner) -> tuple[int, str]:
    """How many comparisons are corrected together, and which; counted from the planned runs as `analysis.json` counts them."""
    if not planner.opened:
        planner.open_without_data()
    planned = [{"key": run.key, "run": run.to_dict(), "status": "planned"} for run, _ in experiment.runs(planner)]
    if count := experiment.comparisons(planned):
        return count, f"the comparison{'s' if count > 1 else ''} that {experiment.name} declares"
    cells = max(len(experiment.cells(planner)) - 1, 1)
    return cells, f"{experiment.name} declares no claim, so that every planned cell is compared with one"


def _larger(found: Design, effect: float, family: int) -> list[str]:
    """What would have to be larger for a difference to be told, and for none."""
    margin, made = margins().points, []
    for what, size, reached in (
        (f"finding {effect:g} point{'' if effect == 1 else 's'}", effect, smallest_at),
        (f"telling that two are within {margin:g} point{'' if margin == 1 else 's'}", margin, equal_at),
    ):
        told = []
        for times in TIMES:
            seeds = seeds_needed(found.points.with_items(times), size, ALPHA / family, reached)
            told.append(f"{found.items * times:,} test items {'no number of' if seeds is None else f'{seeds:,}'} seeds")
        made.append(f"In the strictest of {family} comparisons {what} takes with {', with '.join(told)}.")
    return made


def _needs(parts: Parts, effect: float, alpha: float) -> str:
    seeds = seeds_needed(parts, effect, alpha)
    return f"{seeds} seeds" if seeds is not None else f"more test items (up to {MOST_SEEDS:,} seeds would not do)"

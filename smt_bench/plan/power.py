"""`plan power EXPERIMENT`: the smallest differences that a design finds, before anything runs.

What a difference of two cells varies by comes from stored records of the same experiment and model where there are any (the
median over pairs of cells), else from stated guesses. More seeds make the part smaller that seeds are behind, never that of
the items. `analysis.json` holds the same of a design before its first run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from smt_bench.data.loading import load
from smt_bench.evidence.cells import Group, common_tasks, groups
from smt_bench.evidence.decisions import (
    ALPHA,
    MOST_SEEDS,
    equal_at,
    margins,
    seeds_needed,
    smallest,
    smallest_at,
)
from smt_bench.evidence.interval import Estimate, Parts
from smt_bench.evidence.pairs import compare
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.planner import Planner
from smt_bench.records import heldout
from smt_bench.records.index import INDEX, Index, folder
from smt_bench.records.runs import digest
from smt_bench.records.store import Record, Store
from smt_bench.report.accuracy.variants import relabelled
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
        points: of accuracy; None where there are no test items.
        nats: of held-out NLL; None where there is none.
        source: where both come from.
        items: test items.
        heldout: examples behind the loss.
        pairs: differences (nats) of the single pairs of cells behind the median; empty where they are guessed.
    """

    points: Parts | None
    nats: Parts | None
    source: str
    items: int
    heldout: int
    pairs: tuple[Estimate, ...] = ()


def design(experiment: TrainingExperiment, planner: Planner, results: Path) -> Design:
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
    found = _cells(records) or _cells([_by_settings(r) for r in records])
    tasks = common_tasks(found)
    pairs = [compare(a, b, tasks) for a, b in list(combinations(found, 2))[:MOST_PAIRS]]
    points, nats = _median([c.accuracy for c in pairs]), _median([c.nll for c in pairs])
    if points is None:
        return None
    first = found[0].done[0]
    return Design(
        points,
        nats,
        f"median over {len(pairs)} pairs of {len(found)} stored cells, {min(c.n_seeds for c in pairs)} seeds or more",
        sum(task["n"] for name, task in first["evaluation"].items() if name in tasks),
        0 if nats is None else len(heldout.examples(first, "report")[1]),
        tuple(c.nll for c in pairs if c.nll is not None),
    )


def _cells(records: Sequence[Record]) -> list[Group]:
    """Those with several seeds; none where there are fewer than two, or no table may compare them."""
    try:
        found = [g for g in groups(records) if g.trains and len(g.done) > 1]
    except ValueError:
        return []
    return found if len(found) > 1 else []


def _by_settings(record: Record) -> Record:
    """As a method of its own for its settings: an ablation's cells differ in these alone."""
    method = record["run"]["method"]
    return relabelled(record, f"{method['name']} {digest(method['config'])}")


def _median(found: Sequence[Estimate | None]) -> Parts | None:
    parts = [e.parts for e in found if e is not None and e.parts is not None]
    if not parts:
        return None
    per_seed, items = (float(np.median([getattr(p, name) for p in parts])) for name in ("per_seed", "items"))
    return Parts(per_seed, items, float(np.median([p.items_df for p in parts])), 2)


def _guessed(planner: Planner) -> Design:
    names = list(planner.request.own_tasks)
    limit = planner.request.limit if planner.request.limit is not None else planner.recipe.limit
    harness = [limit or PER_TASK] * len(planner.request.harness_tasks)
    if planner.opened and (planner.data.tests or planner.data.train):  # read, not only planned for
        sizes = [len(examples) for examples in planner.data.tests.values()]
    elif harness and not names:
        sizes = []
    elif planner.entry.embedded is not None:
        tests = load(None, planner.family.name, names, 0, limit, mixture=planner.mixture).tests
        sizes = [len(examples) for examples in tests.values()]
    else:
        sizes = [limit or PER_TASK] * (len(names) or len(planner.family.tasks))
    total, judged = sum([*sizes, *harness]), planner.recipe.heldout / 2  # the other half is for choices
    points = None
    if total:
        points = Parts(2 * SEED_SD**2, 100**2 * DIFFERENT * SHARED / total, max(1.0, total / SHARED), 2)
    nats = None
    if judged > 1:
        nats = Parts(2 * NLL_SEED_SD**2, NLL_ITEM_SD**2 * SHARED / judged, judged / SHARED, 2)
    source = (
        f"guesses: nothing is stored; {total:,} test items, of which two methods answer {100 * DIFFERENT:g} % differently, "
        f"{SEED_SD:g} points over seeds ({NLL_SEED_SD:g} nats), variance of items times {SHARED:g} for shared sources"
    )
    return Design(points, nats, source, total, int(judged))


def before(experiment: TrainingExperiment, planner: Planner, results: Path) -> dict[str, Any]:
    """What `analysis.json` says of the smallest differences that the planned seeds find: points, nats, by one and by all."""
    found, seeds = design(experiment, planner, results), len(planner.seeds())
    family, _ = _family(experiment, planner)
    told: dict[str, Any] = {"seeds": seeds, "comparisons": family, "variances": found.source}
    for name, parts in (("points", found.points), ("nats", found.nats)):
        if parts is not None and seeds > 1:
            sizes = (smallest_at(parts, seeds, alpha) for alpha in (ALPHA, ALPHA / family))
            told[name] = dict(zip(("one", "strictest"), (round(size, 4) for size in sizes)))
    return told


def power_table(experiment: TrainingExperiment, planner: Planner, results: Path, effect: float) -> Table:
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
        *_larger(found.points, found.items, "test items", effect, margins().points, "point", family),
        *_larger(found.nats, found.heldout, "held-out examples", margins().nats, margins().nats, "nat", family),
        *_singly(found.pairs, family),
        *_uncertain(found.points),
        f"Variances: {found.source}.",
    ]
    return Table(f"What {experiment.name} on {planner.entry.name} can tell", header, rows, lines, data)


def _family(experiment: TrainingExperiment, planner: Planner) -> tuple[int, str]:
    """How many comparisons are corrected together, and which; counted from the planned runs as `analysis.json` counts them."""
    if not planner.opened:
        planner.open_without_data()
    planned = [{"key": run.key, "run": run.to_dict(), "status": "planned"} for run, _ in experiment.runs(planner)]
    if count := experiment.comparisons(planned):
        return count, f"the comparison{'s' if count > 1 else ''} that {experiment.name} declares"
    cells = max(len(experiment.cells(planner)) - 1, 1)
    return cells, f"{experiment.name} declares no claim, so that every planned cell is compared with one"


def _larger(
    parts: Parts | None, count: int, items: str, effect: float, margin: float, unit: str, family: int
) -> list[str]:
    """What would have to be larger for a difference to be told, and for none."""
    if parts is None:
        return []
    made: list[str] = []
    for what, size, reached in (("finding", effect, smallest_at), ("telling that two are within", margin, equal_at)):
        told = []
        for times in TIMES:
            seeds = seeds_needed(parts.with_items(times), size, ALPHA / family, reached)
            told.append(f"{count * times:,} {items} {'no number of' if seeds is None else f'{seeds:,}'} seeds")
        takes = f"{what} {size:g} {unit}{'' if size == 1 else 's'} takes with {', with '.join(told)}"
        made.append(f"In the strictest of {family} comparisons {takes}.")
    return made


def _singly(pairs: Sequence[Estimate], family: int) -> list[str]:
    """How far single pairs lie from the median."""
    sizes = [size for e in pairs if (size := smallest(e, ALPHA / family)) is not None]
    if not sizes:
        return []
    return [
        f"NLL, {family} comparisons, the seeds that are stored: {min(sizes):.4f} to {max(sizes):.4f} nats by the pair of cells, "
        f"{float(np.median(sizes)):.4f} in the middle."
    ]


def _uncertain(points: Parts | None) -> list[str]:
    if points is None:
        return ["No test items: nothing is told of accuracy."]
    return [
        f"With any number of seeds {1.96 * math.sqrt(points.items):.1f} points stay uncertain (95 %) for the test items."
    ]


def _needs(parts: Parts | None, effect: float, alpha: float) -> str:
    seeds = seeds_needed(parts, effect, alpha)
    return f"{seeds} seeds" if seeds is not None else f"more test items (up to {MOST_SEEDS:,} seeds would not do)"

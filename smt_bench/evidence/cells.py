"""Records grouped into cells: one (method, fraction), its seeds, and what they say together.

Only "done" records contribute numbers. Runs of one cell may differ in nothing but the seed; older runs of the same cell
with other settings are left out and named. What a table compares must share model, data and test examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from smt_bench.data.tasks import TASKS
from smt_bench.evidence.group import Cells, Group, accuracy
from smt_bench.evidence.interval import over_items
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import rank
from smt_bench.records import heldout
from smt_bench.records.runs import nameless, seedless
from smt_bench.records.store import Record

__all__ = ["Cells", "Group", "accuracy", "groups", "summarise"]

FLOATS = (
    "fraction_pct", "trainable_pct", "lr", "accuracy", "ci95", "stderr", "heldout_nll", "heldout_nll_ci95",
    "heldout_nll_stderr", "format_failure_pct", "overlap",
)  # fmt: skip


def groups(records: Iterable[Record] | Cells) -> Cells:
    """Records by method and fraction, in display order, whatever order they come in; cells are what they are.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    if isinstance(records, Cells):
        return records
    unique = {r["key"]: r for r in records}
    if not unique:
        raise ValueError("no records to report: run the experiment first")
    cells: dict[tuple[str, float | None], list[Record]] = {}
    for record in sorted(unique.values(), key=lambda r: (r["run"]["seed"], r["key"])):
        method = record["run"]["method"]
        cells.setdefault((method["name"], method["fraction"]), []).append(record)
    made = in_order(_group(name, fraction, cell) for (name, fraction), cell in cells.items())
    _check_comparable(made)
    return made


def in_order(found: Iterable[Group]) -> Cells:
    """Cells in display order."""
    return Cells(sorted(found, key=lambda g: (rank(g.method), g.fraction or 0.0)))


def _group(name: str, fraction: float | None, cell: list[Record]) -> Group:
    def variant(record: Record) -> dict[str, Any]:
        return seedless(nameless(record["run"]))

    # A new learning rate or method version leaves the old runs of the cell behind: averaging them would be no
    # average over seeds.
    newest = variant(max(cell, key=lambda r: (r.get("started") or "", r["key"])))
    now: list[Record] = []
    older: list[Record] = []
    for record in cell:
        (now if variant(record) == newest else older).append(record)
    return Group(
        name,
        fraction,
        tuple(r for r in now if r["status"] == "done"),
        tuple(r for r in now if r["status"] != "done"),
        tuple(older),
    )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as dotted paths."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        found |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return found


def _check_comparable(found: Sequence[Group]) -> None:
    seen: dict[str, tuple[Any, Group]] = {}
    for group in found:
        asked = seedless(nameless(group.run))
        for path, value in flat({k: asked[k] for k in ("model", "data", "evaluation")}).items():
            other, first = seen.setdefault(path, (value, group))
            if other != value:
                raise ValueError(
                    f"{group.label} and {first.label} differ in {path} ({value} and {other}): "
                    "a table compares runs on the same model, data and tests"
                )


def common_tasks(found: Sequence[Group]) -> list[str]:
    """The tasks that every contributing record has, in the order of the registry: what averages cover."""
    sets = [g.answers.tasks for g in found if g.answers.tasks is not None]
    shared = frozenset.intersection(*sets) if sets else frozenset()
    known = [name for name in TASKS if name in shared]
    return known + sorted(shared - set(known))


def trained_on(found: Sequence[Group]) -> dict[str, int] | None:
    """Test set -> its examples that are also trained on; None if no record says.

    Older records do not say it. What a table compares has the same training and test examples, so that one record
    speaks for all.
    """
    return next((r["overlap"]["tests"] for g in found for r in (*g.done, *g.lost) if r.get("overlap")), None)


def heldout_nlls(records: Iterable[Record], part: heldout.Part) -> list[float]:
    """Held-out loss of every finished run that has one (nats per response token), on the part to choose by or to report."""
    return [value for r in records if (value := heldout.nll(r, part)) is not None]


def summarise(records: Iterable[Record] | Cells) -> pd.DataFrame:
    """One row per method and fraction, over seeds.

    Returns:
        Columns: `method`, `fraction_pct` (requested; NaN for methods that take none), `trainable_pct` (realised),
        `capacity_unit`, `capacity`, `lr`, `trained` (False for an untouched model), `n_seeds` (records that
        contribute), `accuracy` (%, mean over `tasks`, every task counting the same, then over seeds), `ci95`
        (half-width over seeds), `stderr` (over examples, these runs, examples of one source together), `heldout_nll` (nats
        per response token), `heldout_nll_ci95`, `heldout_nll_stderr`, `format_failure_pct`, `overlap` (test examples of
        `tasks` that are also trained on), `n_examples` (test examples behind
        `accuracy`), `n_heldout`, `diverged` and `failed` (runs without numbers), `status` (what became of those, in
        words), `tasks` and `keys` (of all its runs). Missing numbers are NaN.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    if found.summary is None:
        tasks, shared = common_tasks(found), trained_on(found)
        rows = [_row(group, tasks, shared) for group in found]
        found.summary = pd.DataFrame(rows).astype(dict.fromkeys(FLOATS, float)).astype({"capacity": "Int64"})
    return found.summary.copy()  # a caller may add to it


def _row(group: Group, tasks: list[str], shared: dict[str, int] | None) -> dict[str, Any]:
    done = group.done
    row: dict[str, Any] = {
        "method": group.method,
        "fraction_pct": group.fraction_pct,
        "trainable_pct": 100 * group.capacity["fraction"] if group.capacity else None,
        "capacity_unit": group.capacity.get("unit", ""),
        "capacity": group.capacity.get("units"),
        "lr": group.run["train"]["lr"] if group.trains else None,
        "trained": group.trains,
        "n_seeds": len(done),
        **dict.fromkeys(FLOATS[3:]),
        "n_examples": 0,
        "n_heldout": 0,
        "diverged": sum(r["status"] == "diverged" for r in group.lost),
        "failed": sum(r["status"] != "diverged" for r in group.lost),
        "status": group.status,
        "tasks": tuple(tasks),
        "keys": [r["key"] for r in sorted((*done, *group.lost), key=lambda r: r["run"]["seed"])],
    }
    if done and tasks:
        row["accuracy"], row["ci95"] = mean_ci(group.answers.accuracies(tasks))
        row["stderr"] = group.answers.over_examples(tasks)
        row["format_failure_pct"] = 100 * float(
            np.mean([r["evaluation"][t]["format_failure_rate"] for r in done for t in tasks])
        )
        if group.trains and shared is not None:
            row["overlap"] = sum(shared.get(t, 0) for t in tasks)
        row["n_examples"] = sum(done[0]["evaluation"][t]["n"] for t in tasks)
    found = group.answers.heldout
    if found is not None:
        loss = group.answers.nll_side
        assert loss is not None
        row["heldout_nll"], row["heldout_nll_ci95"] = mean_ci([h.nll for h in found])
        row["heldout_nll_stderr"] = over_items([(1.0, loss)])
        row["n_heldout"] = found[0].tokens.size
    return row

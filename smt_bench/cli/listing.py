"""The runs of a command, printed: `run --dry-run`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smt_bench.cli.options import show

if TYPE_CHECKING:
    from smt_bench.methods.base import Capacity


def print_runs(planned: Sequence[tuple[Any, Capacity | None]], statuses: Mapping[str, str], as_json: bool) -> None:
    """One line per run, or one JSON object: what it trains and whether it has been done.

    Args:
        planned: runs with what their fractions become; measurements have no capacity.
        statuses: of the runs that have records, by key.
        as_json: one array instead of lines.
    """
    from smt_bench.records.index import varied

    rows: list[dict[str, Any]] = []
    settings = varied([run for run, _ in planned])
    wide = max([6, *(len(run.method.name) for run, capacity in planned if capacity is not None)])
    for run, capacity in planned:
        status = statuses.get(run.key, "missing")
        if capacity is None:
            rows.append({"key": run.key, "status": status, **run.to_dict()})
            if not as_json:
                show(f"{run.key}  {status:<8} {run.kind} {run.model.name} seed {run.seed}  {json.dumps(run.settings)}")
            continue
        fraction = run.method.fraction
        row = {
            "key": run.key,
            "model": run.model.name,
            "method": run.method.name,
            "fraction_pct": None if fraction is None else round(fraction * 100, 10),
            "seed": run.seed,
            "status": status,
            "capacity_unit": capacity.unit,
            "capacity": capacity.units,
            "trainable": capacity.trainable,
            "trainable_pct": round(100 * capacity.fraction, 6),
            "lr": run.train.lr,
            "steps": run.train.steps,
            "tasks": list(run.evaluation.tasks),
            "settings": settings[run.key],
            "tuning": run.tuning,
            **({"base": run.train.base} if run.train.base else {}),
        }
        rows.append(row)
        if not as_json:
            asked = "" if fraction is None else f"{100 * fraction:g} %"
            show(
                f"{run.key}  {status:<8} {run.method.name:<{wide}} {asked:>7}  seed {run.seed}  "
                f"{capacity.units:,} {capacity.unit} = {capacity.trainable:,} numbers ({row['trainable_pct']:.3f} %)  "
                f"lr {run.train.lr:g}  {run.train.steps} steps"
                + (f"  over {run.train.base}" if run.train.base else "")
                + ("  tuned" if run.tuning else "")
                + "".join(f"  {name}={json.dumps(value)}" for name, value in settings[run.key].items())
            )
    if as_json:
        print(json.dumps(rows, indent=1))

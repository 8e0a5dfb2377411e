"""What a command will do, said beforehand: its runs, how long they take, and what its data lack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smt_bench.cli.options import say, show

if TYPE_CHECKING:
    from smt_bench.data.datasets import DataSet
    from smt_bench.methods.base import Capacity
    from smt_bench.questions.parts import Leg
    from smt_bench.records.store import Store


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


def say_parts(parts: Sequence[Leg], store: Store) -> None:
    """Of several experiments, what each takes and has."""
    for part in parts if len(parts) > 1 else ():
        keys = [run.key for run, _ in part.planned]
        there = sum(store.path(key).exists() for key in keys)
        say(f"{part.experiment.name} ({part.planner.family.name}): {len(keys)} runs, {there} there")


def say_of_data(parts: Sequence[Leg]) -> None:
    """What the data lack, and what they hold that they should not; before anything is trained."""
    for planner in {id(p.planner.data): p.planner for p in parts if p.experiment.needs_inputs}.values():
        for name in planner.data.missing:
            say(f"note: no test file for {name}: left out, averages name the tasks they cover")
        for data_set in planner.all_data:
            if data_set.empty:
                say(f"note: training set {data_set.train_source}: {data_set.empty:,} without a response left out")
            if overlap := overlap_warning(data_set):
                say(f"warning: {overlap}")


def say_hours(parts: Sequence[Leg], store: Store, jobs: int, besides: str = "") -> None:
    """How long the runs that train take, which is not known of measurements.

    Args:
        parts: of the command.
        store: with the records of some.
        jobs: runs at the same time.
        besides: what is not counted.
    """
    from smt_bench.plan.hours import hours
    from smt_bench.records.runs import Run

    found = {
        run.key: (run, capacity, part.planner)
        for part in parts
        for run, capacity in part.planned
        if isinstance(run, Run) and capacity is not None
    }
    if found:
        asked = any(part.planner.request.harness_tasks for part in parts)
        left_out = "; the tasks of lm-eval are not counted" if asked else ""
        say(f"{hours(list(found.values()), store, jobs)}{left_out}{besides}")


def overlap_warning(data: DataSet) -> str | None:
    """One line on test questions that are also trained on; None where there are none."""
    from smt_bench.evidence.words import task_title

    found = [f"{task_title(t)} {n:,} of {len((data.tests | data.losses)[t]):,}" for t, n in data.overlap.items() if n]
    if not found:
        return None
    return f"training set {data.train_source} holds test questions ({', '.join(found)}): marked in the tables"

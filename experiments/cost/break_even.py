"""The open question of SMT's cost: after how many steps have its warm-up and selection paid for themselves?

The paper's table 1 leaves both out and says that "since SMT requires fewer than 100 warm-up steps in our experiments, it does not
become a bottleneck" (section 3). With W warm-up steps of w ms, a selection of s ms and tuning steps of t ms, SMT has caught up
with a method of r ms a step after N = (W (w - t) + s) / (r - t) steps, at the earliest when the warm-up is over, and never
where r <= t.

The times are those of `speed`, whose measurements this experiment shares. Beside the model asked for stand the weightless
architectures that are smaller than it, so that a large enough model gives the answer by model size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smt_bench.evidence.interval import mean_of
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.verdicts import judge, tally
from smt_bench.evidence.words import percent
from smt_bench.experiments.cost.speed.experiment import Speed
from smt_bench.experiments.cost.speed.rows import full_title, speed_rows
from smt_bench.methods.modules import total_parameters
from smt_bench.models import build, registry
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Measurement
from smt_bench.records.store import Record
from smt_bench.report.measured import measured
from smt_bench.report.numbers import written
from smt_bench.report.table import Table

WARMUPS = {"warmup_step": "trains", "frozen_warmup_step": "frozen"}
MATTERS = 1.0  # % of the run's time


def _planners(planner: Planner) -> list[Planner]:
    """The weightless models smaller than the one asked for, and that one, by size."""
    own = total_parameters(planner.shapes)
    sizes = {e.name: total_parameters(build.shapes(e.name)) for e in registry.REGISTRY.values() if e.weightless}
    smaller = sorted((total, name) for name, total in sizes.items() if total < own)
    preset = planner.request.preset if planner.request.smoke else None  # a reference is that of one model
    made = [
        Planner(
            replace(planner.request, model=name, preset=preset),
            planner.here,
            planner.say,
            planner.spread,
            planner.shared,
        )
        for _, name in smaller
    ]
    return [*made, planner]


def steps_to_catch_up(warmup: int, warmup_ms: float, selection_ms: float, step_ms: float, rival_ms: float) -> float:
    """N of the module's equation; infinite where the rival's step is not slower.

    Args:
        warmup: warm-up steps.
        warmup_ms: of one of them.
        selection_ms: scores, choice and conversion of the layers.
        step_ms: of a tuning step.
        rival_ms: of the other method's step.
    """
    if rival_ms <= step_ms:
        return math.inf
    return max(float(warmup), (warmup * (warmup_ms - step_ms) + selection_ms) / (rival_ms - step_ms))


def _of_one(record: Record) -> list[dict[str, Any]]:
    """One seed's break-evens: SMT at its first fraction, under both warm-ups, against every method at that fraction."""
    rows = speed_rows([record])
    smt = next((r for r in rows if r["method"] == "smt"), None)
    if smt is None:
        return []
    own = {r["phase"]: r["step_ms"] for r in rows if (r["method"], r["fraction"]) == ("smt", smt["fraction"])}
    entry = next(e for e in record["result"]["entries"] if e["name"] == "smt")
    count, whole = entry["config"]["warmup_steps"], record["run"]["settings"]["run_steps"]
    rivals = [r for r in rows if r["phase"] == "step_amortised" and r["method"] != "smt"]
    made = []
    for phase, kind in WARMUPS.items():
        if phase not in own:  # set off, or it did not fit
            continue
        spent = count * (own[phase] - own["step"]) + own["selection"]
        for r in (r for r in rivals if r["fraction"] in (None, smt["fraction"])):
            theirs = r["step_ms"]
            made.append(
                {"warmup": kind, "against": full_title(r["method"], r["variant"]), "fraction": smt["fraction"]}
                | {"warmup_steps": count, "run_steps": whole, "parameters": entry["total"]}
                | {
                    "warmup_ms": own[phase],
                    "selection_ms": own["selection"],
                    "step_ms": own["step"],
                    "rival_ms": theirs,
                }
                | {"steps": steps_to_catch_up(count, own[phase], own["selection"], own["step"], theirs)}
                | {"saved_pct": 100 * (1 - (whole * own["step"] + spent) / (whole * theirs))}
            )
    return made


class BreakEven(Speed):
    """The measurements of `speed`, of several sizes."""

    name = "break-even"
    reproduces = "no table of the papers: steps after which SMT's warm-up and selection are paid for, by model size"
    needs = "any model, no weights, no data; shares the measurements of speed"

    def check(self, planner: Planner) -> None:
        """Every fraction must be possible on every size."""
        for one in _planners(planner):
            super().check(one)

    def runs(self, planner: Planner) -> list[tuple[Measurement, None]]:
        """The measurements of `speed`, under its name, of all sizes."""
        return [run for one in _planners(planner) for run in Speed().runs(one)]

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """One row per size, warm-up and rival."""
        cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        done, made = measured(records, model)
        for record in done:
            for line in _of_one(record):
                key = (line["parameters"], record["run"]["model"]["name"], line["warmup"], line["against"])
                cells.setdefault(key, []).append({**line, "key": record["key"]})
        rows, data = [], []
        ordered = sorted(cells.items(), key=lambda item: item[0][:2])
        verdicts = judge([mean_of([f["saved_pct"] for f in found]) for _, found in ordered], MATTERS, "{:.1f} %".format)
        for verdict, ((total, name, kind, against), found) in zip(verdicts, ordered):
            mean = {k: mean_ci([f[k] for f in found])[0] for k in ("warmup_ms", "selection_ms", "step_ms", "rival_ms")}
            never = any(math.isinf(f["steps"]) for f in found)
            steps, half = (None, None) if never else mean_ci([f["steps"] for f in found])
            saved, saved_half = mean_ci([f["saved_pct"] for f in found])
            first = found[0]
            rows.append(
                [
                    name,
                    f"{total / 1e6:.1f}",
                    percent(100 * first["fraction"]),
                    f"{first['warmup_steps']}, {kind}",
                    against,
                ]
                + [f"{mean[k]:.1f}" for k in ("warmup_ms", "selection_ms", "step_ms", "rival_ms")]
                + [written(steps, 0, half) or "never"]
                + [written(saved, 1, saved_half, signed=True), verdict]
            )
            data.append(
                {
                    "model": name,
                    "parameters": total,
                    "warmup_steps": first["warmup_steps"],
                    "fraction": first["fraction"],
                    "warmup": kind,
                    "against": against,
                    **mean,
                }
                | {
                    "steps": steps,
                    "steps_ci95": half,
                    "saved_pct": saved,
                    "saved_pct_ci95": saved_half,
                    "n_seeds": len(found),
                    "keys": " ".join(f["key"] for f in found),
                }
            )
        if not rows:
            raise ValueError(f"no finished measurement of {model} with smt: run break-even again")
        sample = next(iter(cells.values()))[0]
        header = [
            "model",
            "parameters, M",
            "trainable",
            "warm-up steps",
            "against",
            "warm-up step, ms",
            "selection, ms",
            "SMT step, ms",
        ]
        header += [
            "other's step, ms",
            "paid for after steps",
            f"saved in {sample['run_steps']:,} steps, %",
            "SMT is faster in all",
        ]
        notes = [
            f"Verdict on 'SMT's warm-up and selection pay for themselves within the paper's run': {tally(verdicts)}.",
            f"A run has the paper's {sample['run_steps']:,} steps (commonsense), its warm-up is the recipe's for so many; "
            "selection included; medians over rounds, mean over seeds, ±: 95 % over seeds. Never: some seed's other step was "
            "not slower.",
            f"Rule: faster does not hold where the 90 % interval over seeds of the time saved lies within ± {MATTERS:g} "
            "%, or where SMT is behind; else holds where the 95 % one lies above 0; else, and with one seed, it cannot "
            "be told. All rows corrected together (Holm).",
            "Trains: the paper's warm-up, all parameters train. Frozen: gradients are watched only.",
            f"Machine: {done[0]['run']['machine']}; random weights and tokens.",
            *made,
        ]
        return Table(f"Steps until SMT's warm-up is paid for, {model}", header, rows, notes, data).write(
            folder, "break_even"
        )

"""From the records of `speed` to rows: one per method, fraction and phase."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from smt_bench.evidence.words import title
from smt_bench.records.store import Record

PHASES = ("forward", "backward", "hooks", "optimizer")
Row = dict[str, Any]


def _medians(steps: Iterable[dict[str, float]]) -> dict[str, float]:
    """Median of every phase and of sums over phases: a median of sums, not a sum of medians."""
    steps = list(steps)
    whole = {phase: [step[phase] for step in steps] for phase in PHASES}
    whole["forward_backward"] = [step["forward"] + step["backward"] for step in steps]
    whole["step"] = [sum(step.values()) for step in steps]
    return {phase: statistics.median(values) for phase, values in whole.items() if values}


def speed_rows(records: Sequence[Record]) -> list[Row]:
    """One row per method, fraction and phase, over all rounds of all seeds.

    `ratio_to_full` is full fine-tuning's time over this one's, of the same phase (of the step, for phases that full
    fine-tuning does not have); `flop_limit_ratio` the same of FLOPs.
    """
    first = records[0]["result"]
    steps: dict[str, list[dict[str, float]]] = {}
    estimating: dict[str, list[bool]] = {}
    for record in records:
        for name, taken in record["result"]["milliseconds"].items():
            steps.setdefault(name, []).extend(taken)
            estimating.setdefault(name, []).extend(record["result"]["estimating"].get(name, [False] * len(taken)))
    full = _medians(steps["full"]) if "full" in steps else {}
    full_flops = first["flops"].get("full")
    rows: list[Row] = []

    def add(entry: Row, phase: str, ms: float, n: int, flops: dict[str, int] | None, like: str) -> None:
        per = {"forward": ("forward",), "backward": ("backward",), "forward_backward": ("forward", "backward")}
        parts = per.get(like, ("forward", "backward") if like == "step" else ())
        limit = None
        if flops and full_flops and parts:
            limit = sum(full_flops[p] for p in parts) / sum(flops[p] for p in parts)
        rows.append(
            {
                "method": entry["name"],
                "variant": entry["variant"],
                "fraction": entry["fraction"],
                "trainable": entry["trainable"],
                "phase": phase,
                "step_ms": ms,
                "tokens_per_s": 1e3 * first["tokens"] / ms if like in ("step", "forward_backward") else None,
                "ratio_to_full": full[like] / ms if like in full and ms else None,
                "flop_limit_ratio": limit,
                "gflops": sum(flops[p] for p in parts) / 1e9 if flops and parts else None,
                "repeats": n,
                "seeds": len(records),
            }
        )

    for entry in first["entries"]:
        name = entry["label"]
        if name not in steps:  # it did not fit; `table1` says so
            continue
        flops = first["flops"][name]
        apart = [s for s, e in zip(steps[name], estimating[name]) if e]
        plain = [s for s, e in zip(steps[name], estimating[name]) if not e] or steps[name]
        found = _medians(plain)
        for phase, ms in found.items():
            add(entry, phase, ms, len(plain), flops, phase)
        amortised = found["step"]
        if apart:
            slower = _medians(apart)["step"]
            add(entry, "estimation_step", slower, len(apart), None, "step")
            share = entry["config"]["estimate_steps"] / entry["config"]["update_every"]
            amortised = share * slower + (1 - share) * found["step"]
        trains = entry["config"].get("warmup_trains")
        kinds = {"smt warm-up": "warmup_step", "smt frozen warm-up": "frozen_warmup_step"}
        if entry["name"] == "smt" and (taken := {k: p for k, p in kinds.items() if k in steps}):
            whole, count = records[0]["run"]["settings"]["run_steps"], entry["config"]["warmup_steps"]
            selection = statistics.median(r["result"]["selection_ms"][name] for r in records)
            warm = {}
            for kind, phase in taken.items():
                warm[phase] = _medians(steps[kind])["step"]
                add(entry, phase, warm[phase], len(steps[kind]), first["flops"][kind], "step")
            add(entry, "selection", selection, len(records), None, "")
            own = warm.get("warmup_step" if trains else "frozen_warmup_step")
            if own is None:  # the warm-up of such a run does not fit here: what it takes is not known
                continue
            amortised = (count * own + selection + (whole - count) * found["step"]) / whole
        add(entry, "step_amortised", amortised, len(plain), flops, "step")
    if "frozen model" in steps:
        nothing = {"name": "frozen model", "variant": "", "fraction": None, "trainable": 0}
        for phase, ms in _medians(steps["frozen model"]).items():
            if phase in ("forward", "backward", "forward_backward", "step"):
                add(nothing, phase, ms, len(steps["frozen model"]), first["flops"]["frozen model"], phase)
    return rows


def full_title(method: str, variant: str) -> str:
    """A method's name with what is special about it here."""
    return title(method) + (f", {variant}" if variant else "")


def pick(rows: Sequence[Row], method: str, phase: str) -> Row | None:
    """The first row of a method's phase."""
    return next((r for r in rows if (r["method"], r["phase"]) == (method, phase)), None)

"""Made-up records, as `execute` would write them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from smt_bench.records.runs import DataRef, EvalRef, MethodRef, ModelRef, Run, TrainRef
from smt_bench.records.store import SCHEMA, Record

EIGHT = ("boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "ARC-Easy", "ARC-Challenge", "openbookqa")
LRS = {"full": 1e-3, "base": 0.0}
RUN = Run(
    ModelRef("tiny", "0123456789abcdef", "embedded"),
    DataRef("commonsense", "embedded-1", "fedcba9876543210", 100, 0, "llm-adapters", False, 128),
    MethodRef("lora", 1, 0.01, {"targets": ["q_proj"], "alpha_per_rank": 2.0, "dropout": 0.05}),
    TrainRef(1e-3, 100, 32, 32, 5, 0.0, (0.9, 0.999), 1e-8, 1.0, "fp32", False, version=1),
    EvalRef("likelihood", 1, {"facts-2": "00ff"}, 1, 32, 24),
    0,
)


def run(method: str, fraction_pct: float | None, seed: int = 0, **changes: Any) -> Run:
    """A run; changes: tasks, model, lr, steps, version, weight_decay, tests (content hash), protocol, weights."""
    trains, model = method != "base", changes.get("model", "tiny")
    tests = dict.fromkeys(changes.get("tasks", ("boolq", "piqa")), changes.get("tests", "h"))
    return Run(
        ModelRef(model, "rev0", changes.get("weights", "embedded" if model == "tiny" else "hub")),
        DataRef("commonsense", "boolq+piqa", "ab" * 32, 100, 0, "alpaca", False, 128),
        MethodRef(method, changes.get("version", 1), None if fraction_pct is None else fraction_pct / 100, {}),
        TrainRef(
            changes.get("lr", LRS.get(method, 3e-3)) if trains else 0.0, changes.get("steps", 120),
            32, 32, 5, changes.get("weight_decay", 0.0), (0.9, 0.999), 1e-8, 1.0, "fp32", False,
        ),
        EvalRef(changes.get("protocol", "likelihood"), 1, tests, 1, 32, 24),
        seed if trains else 0,
    )  # fmt: skip


def record(
    method: str,
    fraction_pct: float | None,
    seed: int = 0,
    correct: dict[str, list[int]] | None = None,
    nll: float | None = None,
    status: str = "done",
    unparsed: int = 0,
    started: str = "2026-11-22T00:00:00+00:00",
    **changes: Any,
) -> Record:
    """A record whose answers are `correct` (by task) and whose held-out examples have `nll` nats per token on average."""
    asked = run(method, fraction_pct, seed, tasks=tuple(correct or ("boolq", "piqa")), **changes)
    made: Record = {
        "schema": SCHEMA,
        "key": asked.key,
        "run": asked.to_dict(),
        "status": status,
        "message": None if status == "done" else f"{status} here",
        "step": 7 if status == "diverged" else None,
        "started": started,
        "environment": {"commit": "c" * 40, "dirty": False},
    }
    if status != "done":
        return made
    share = {"base": 0.0, "full": 1.0}.get(method, (fraction_pct or 0.02) / 100 * 1.01)
    unit = "parameters" if method in ("base", "full") else "blocks"
    total = 1_000_000
    trainable = round(share * total)
    made["capacity"] = {
        "unit": unit, "units": trainable, "trainable": trainable, "total": total, "fraction": trainable / total,
    }  # fmt: skip
    made["evaluation"] = {}
    for task, right in (correct or {"boolq": [1], "piqa": [1]}).items():
        n, p = len(right), sum(right) / len(right)
        made["evaluation"][task] = {
            "n": n,
            "accuracy": p,
            "stderr": math.sqrt(p * (1 - p) / n),
            "format_failures": unparsed,
            "format_failure_rate": unparsed / n,
            "protocol": "likelihood",
            "examples": {
                "gold": ["true"] * n,
                "prediction": ["true" if c else "false" for c in right],
                "correct": list(right),
                "parsed": [0] * unparsed + [1] * (n - unparsed),
                "loglik": [-0.5] * n,
            },
        }
    if nll is None:
        made["heldout"] = {"nll": None, "examples": {"loglik": [], "tokens": []}}
    else:
        tokens = [2, 3, 4, 5] * 6
        # Examples differ, their total is as asked.
        bumps = [0.1, -0.1, 0.2, -0.2] * 6
        made["heldout"] = {
            "nll": nll,
            # The last one's response did not fit into the cut-off.
            "examples": {"loglik": [*(-nll * t + b for t, b in zip(tokens, bumps)), None], "tokens": [*tokens, 0]},
        }
    return made


def sweep(
    model: str,
    fractions: tuple[float, ...],
    seeds: int,
    methods: tuple[str, ...] = ("base", "full", "smt", "spiel", "lora", "dora"),
    tasks: tuple[str, ...] = EIGHT,
    n: int = 200,
    skill: float = 0.7,
    protocol: str = "likelihood",
) -> list[Record]:
    """Records of a whole sweep, drawn at random around plausible values."""
    made = []
    for m, method in enumerate(methods):
        for k, fraction in enumerate(fractions if method not in ("base", "full") else (None,)):
            for seed in range(seeds if method != "base" else 1):
                rng = np.random.default_rng((m, k, seed))
                gain = {"base": -0.3, "full": 0.1}.get(method, 0.02 * m / 2 + 0.04 * k / len(fractions))
                p = skill + gain + 0.006 * rng.standard_normal()
                right = {t: (rng.random(n) < p).astype(int).tolist() for t in tasks}
                nll = 1.9 - 1.2 * p + 0.004 * rng.standard_normal()
                made.append(record(method, fraction, seed, right, nll=nll, model=model, protocol=protocol))
    return made

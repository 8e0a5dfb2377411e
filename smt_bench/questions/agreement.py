"""Whether two answers to one question are the same.

Bit by bit where all that decides the last bits of a sum is as it was: processor or GPUs, packages, threads, kernels, spread.
Elsewhere losses and held-out numbers have to agree within `LOSS` and `NATS`, and so many predictions as `PREDICTIONS` says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smt_bench.machine.facts import QUANTIZES
from smt_bench.records.store import Record

LOSS = 1e-3  # relative, of training losses and gradient norms on another machine
NATS = 1e-3  # per token, of the held-out loss there
PREDICTIONS = 0.01  # share of the answers that may differ there: those between two options that are as likely
DECIDES = ("cpu", "gpus", "threads", "float32_matmul", "attention_kernels", "attention", "spread")
PACKAGES = ("torch", "transformers", "peft", "tokenizers", QUANTIZES)


@dataclass(frozen=True)
class Point:
    """One thing that was compared.

    Attributes:
        what: its name.
        same: whether the two answers agree, as closely as is asked; None: only told.
        told: by how much they differ, in words.
    """

    what: str
    same: bool | None
    told: str


def unlike(old: Record, new: Record) -> list[str]:
    """What of the machine decides the last bits of a sum and is otherwise than it was, in words; empty: the same kind."""
    before, now = old.get("environment") or {}, new.get("environment") or {}
    found = [f"{name} {before.get(name)}, now {now.get(name)}" for name in DECIDES if before.get(name) != now.get(name)]
    versions = [(env.get("packages") or {}) for env in (before, now)]
    return found + [
        f"{p} {versions[0].get(p)}, now {versions[1].get(p)}"
        for p in PACKAGES
        if versions[0].get(p) != versions[1].get(p)
    ]


def compare(old: Record, new: Record, exact: bool) -> list[Point]:
    """Point by point, whether two answers to one question are the same.

    Args:
        old: the stored record.
        new: made now.
        exact: bit by bit; else within the tolerances.
    """
    why = f": {new['message']}" if new["message"] else ""
    points = [Point("outcome", old["status"] == new["status"], f"{old['status']}, now {new['status']}{why}")]
    if "training" in old and "training" in new:
        for what, name in (("losses", "losses"), ("gradient norms", "grad_norms")):
            points.append(_numbers(what, old["training"][name], new["training"][name], exact))
    if "method" in old and "method" in new:
        same = old["method"] == new["method"]
        points.append(Point("what the method decided", same or not exact, "the same" if same else "otherwise"))
    if "composition" in old and "composition" in new:
        same = old["composition"] == new["composition"]
        points.append(Point("what the parts share", same or not exact, "the same" if same else "otherwise"))
    for record in (old, new):
        if "heldout" not in record or "evaluation" not in record:
            return points
    before, now = (r["heldout"]["examples"]["loglik"] for r in (old, new))
    if exact:
        points.append(_numbers("held-out log-likelihoods", before, now, True))
    points.append(_mean("held-out loss", old["heldout"]["nll"], new["heldout"]["nll"], exact))
    before, now = old.get("losses") or {}, new.get("losses") or {}
    for name in {**before, **now}:
        what, sets = f"loss of {name}", [side[name] for side in (before, now) if name in side]
        if len(sets) < 2:
            points.append(Point(what, False, "only one has it"))
        elif exact:
            points.append(_numbers(what, sets[0]["examples"]["loglik"], sets[1]["examples"]["loglik"], exact))
        else:
            points.append(_mean(what, sets[0]["nll"], sets[1]["nll"], exact))
    pairs = [
        (p, q)
        for task, result in old["evaluation"].items()
        for p, q in zip(
            result["examples"]["prediction"], new["evaluation"][task]["examples"]["prediction"], strict=True
        )
    ]
    other = sum(p != q for p, q in pairs)
    enough = other <= (0 if exact else PREDICTIONS * len(pairs))
    points.append(Point("predictions", enough, f"{other} of {len(pairs):,} differ"))
    return points


def _mean(what: str, a: float | None, b: float | None, exact: bool) -> Point:
    apart = 0.0 if a is None or b is None else abs(a - b)
    close = (a is None) == (b is None) and (apart == 0 if exact else apart <= NATS)
    return Point(what, close, f"{_plain(a)}, now {_plain(b)}")


def _numbers(what: str, old: Sequence[float | None], new: Sequence[float | None], exact: bool) -> Point:
    if len(old) != len(new):
        return Point(what, False, f"{len(old)}, now {len(new)}")
    other = [(i, a, b) for i, (a, b) in enumerate(zip(old, new), start=1) if a != b]
    far = (
        other
        if exact
        else [
            (i, a, b)
            for i, a, b in other
            if a is None or b is None or not math.isclose(a, b, rel_tol=LOSS, abs_tol=1e-6)
        ]
    )
    if not other:
        return Point(what, True, f"all {len(old):,} the same")
    i, a, b = (far or other)[0]
    return Point(what, not far, f"{len(other):,} of {len(old):,} differ, number {i}: {_plain(a)}, now {_plain(b)}")


def _plain(value: Any) -> str:
    return "none" if value is None else f"{value:.6g}"

"""The paper's own measure of memory (SpIEL, appendix F): the smallest limit, in GiB, at which 30 training steps succeed.

The limit is PyTorch's (`torch.cuda.set_per_process_memory_fraction`): of what its allocator may take, CUDA's own context not
included. Every limit is tried in a process of its own, so that no attempt finds what another left. The time of a step is the mean
over the 30 at the smallest limit that passes.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any

import torch

from smt_bench import methods
from smt_bench.machine import memory
from smt_bench.measuring.contestant import Contestant
from smt_bench.measuring.random_inputs import random_batch, random_model
from smt_bench.measuring.updaters import UPDATERS
from smt_bench.methods.base import OptimizerSettings
from smt_bench.records.rows import Rows

GIB = 2**30
STEPS = 30
RATE = 1e-5
FAILED = "out of memory"


def smallest(low: int, high: int, passes: Callable[[int], list[float] | None]) -> tuple[int, list[float]] | None:
    """The smallest limit from `low` to `high` that passes, and what it gave, by bisection; None where `high` fails.

    Args:
        low: GiB, the first that may pass.
        high: GiB, the last.
        passes: gives None where a limit fails. Larger limits are taken to pass where smaller ones do.
    """
    found = passes(high)
    if found is None:
        return None
    best = high, found
    while low < best[0]:
        middle = (low + best[0]) // 2
        found = passes(middle)
        if found is None:
            low = middle + 1
        else:
            best = middle, found
    return best


def steps_within(
    model: str, s: dict[str, Any], entry: dict[str, Any], checkpointing: bool, seed: int, gib: int
) -> list[float] | None:
    """Seconds of each step with so many GiB of the GPU; None where they do not suffice. For a process of its own.

    Args:
        model: name.
        s: settings of the measurement.
        entry: method, config, fraction.
        checkpointing: recompute activations.
        seed: of weights and tokens.
        gib: the limit.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * GIB / whole), 0)
    build = partial(random_model, model, s["precision"], device, seed, s.get("layers"), s.get("base", ""))
    make = partial(methods.build, entry["name"], entry["config"], entry["fraction"], seed, s["run_steps"])
    contestant = Contestant(entry["name"], make, build, updater=UPDATERS[s.get("optimizer_dtype", "fp32")])
    try:
        batch = random_batch(model, s["batch_size"], s["length"], seed, device)
        contestant.open(batch, OptimizerSettings(RATE, fused=True), checkpointing)
        return [sum(contestant.step().values()) for _ in range(s["steps"])]
    except Exception as error:
        if not memory.exhausted(error):
            raise
        return None


def limit_of(
    server: Any, model: str, s: dict[str, Any], entry: dict[str, Any], checkpointing: bool, seed: int, high: int, rows: Rows
) -> dict[str, Any]:  # fmt: skip
    """The protocol for one method; what was tried is kept, so that an interrupted search goes on.

    Args:
        server: where processes are forked from.
        model: name.
        s: settings of the measurement.
        entry: method, config, fraction.
        checkpointing: recompute activations.
        seed: of weights and tokens.
        high: GiB of the GPU.
        rows: attempts so far.

    Returns:
        `limit_gib` and `step_s`, or `message`.
    """

    def attempt(gib: int) -> list[float] | None:
        name = json.dumps([entry, checkpointing, gib], sort_keys=True)
        if (known := rows.get(name)) is None:
            with ProcessPoolExecutor(1, mp_context=server) as pool:
                known = pool.submit(steps_within, model, s, entry, checkpointing, seed, gib).result() or FAILED
            rows.put({name: known})
        return None if known == FAILED else known

    try:
        found = smallest(1, high, attempt)
    except BrokenProcessPool:  # the kernel's answer to too little main memory
        return {"message": "the process was killed, most likely for want of main memory"}
    if found is None:
        return {"message": f"{s['steps']} steps need more than {high} GiB"}
    return {"limit_gib": found[0], "step_s": statistics.mean(found[1])}

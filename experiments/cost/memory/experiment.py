"""The 67 % claim: exact bytes of a training step by category and method, beside the peak of the process or device.

Claims (SMT, abstract and section 4.4): 67 % less GPU memory than full fine-tuning; lower memory than LoRA and DoRA at the same
number of trainable parameters; activations of the selected layers kept in part only (section 3).

Every method takes a real step with and without checkpointing, each in a process of its own, whose peak is then that of this
method alone. Bytes are counted by `measuring.accountant`, the same account that `plan` makes of models too large for this
machine. SMT's warm-up, which trains everything unless it is frozen, stands apart from its tuning. Weights and tokens are
random.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from smt_bench import methods
from smt_bench.experiments.cost.memory.process import weigh
from smt_bench.experiments.cost.memory.tables import write_memory
from smt_bench.experiments.cost.steps import PAPER_STEPS, StepsExperiment, lacking, weight_bytes, whole
from smt_bench.machine import fits
from smt_bench.machine.watch import Watcher
from smt_bench.methods.modules import total_parameters
from smt_bench.models.build import shapes
from smt_bench.models.precision import SHORT
from smt_bench.questions.capacity import demand_of
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Measurement
from smt_bench.records.store import Record


class Memory(StepsExperiment):
    """Every method takes a step in a process of its own."""

    name = "memory"
    reproduces = "SMT's memory claims (abstract, section 4.4): bytes of a training step by category"
    needs = "any model that fits, no weights, no data"
    version = 2  # 2: the optimizer that training has here, which is also the one that is planned
    repeats = ("account",)  # planned and measured bytes of tensors; a process's own peaks vary

    def settings(self, planner: Planner) -> dict[str, Any]:
        """The steps, with both warm-ups of SMT; checkpointing is on and off."""
        asked = super().settings(planner)
        # Dropout masks are part of what a method keeps, so that the variants without them count as well. A frozen warm-up is
        # what lets SMT do without dense gradients.
        for entry in [e for e in asked["methods"] if e["config"].get("warmup_trains")]:
            frozen = {**entry, "config": {**entry["config"], "warmup_trains": False}, "variant": "frozen"}
            asked["methods"].insert(asked["methods"].index(entry) + 1, frozen)
        del asked["checkpointing"]
        if planner.request.checkpointing is not None:
            asked["checkpointing"] = [planner.request.checkpointing]
        if planner.here.gpus:
            asked["peaks"] = "by phase"  # there was one over all before, the building in float32 included
        elif asked["precision"] == "bf16" and asked["length"] <= SHORT:
            asked["attention"] = "as training"  # it was torch's own before, see `models.precision.attend`
        return asked

    def runs(self, planner: Planner) -> list[tuple[Measurement, None]]:
        """One measurement of all methods; bytes do not depend on the seed, so that the first is enough."""
        return super().runs(planner)[:1]

    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """One row per method, variant and checkpointing; a method that does not fit has a message in place of bytes."""
        s, rows, here = measurement.settings, [], fits.here()
        model = inputs.source(measurement.model)
        jobs = [(entry, kind) for kind in s.get("checkpointing", (False, True)) for entry in s["methods"]]
        # Forked from a server that has imported everything and computed nothing, so that every process starts alike.
        server = multiprocessing.get_context("forkserver")
        modules = {methods.find(entry["name"]).__module__ for entry in s["methods"]}
        server.set_forkserver_preload(["smt_bench.experiments.cost.memory.process", *sorted(modules)])
        for done, (entry, checkpointing) in enumerate(jobs):
            watch("memory", done, len(jobs), entry["name"])
            name = json.dumps([entry, checkpointing], sort_keys=True)
            found = inputs.rows.get(name)
            if found is None:
                found = weighed(server, model, s, entry, checkpointing, measurement.seed, here)
                if "account" in found:  # what did not fit is tried again: there may be more memory by then
                    inputs.rows.put({name: found})
            rows.append(
                {**{k: entry[k] for k in ("name", "variant", "fraction")}, "checkpointing": checkpointing, **found}
            )
        if not any("account" in row for row in rows):
            raise MemoryError("; ".join(f"{row['name']}: {row['message']}" for row in rows))
        return {"rows": rows, "whole": whole(model, s)}

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Bytes by category, the activations of SMT's layers, and a figure."""
        return write_memory(records, folder, model)


def weighed(
    server: Any,
    model: str,
    s: dict[str, Any],
    entry: dict[str, Any],
    checkpointing: bool,
    seed: int,
    here: fits.Machine,
) -> dict[str, Any]:
    """One method's row; a message where it cannot fit, ran out of memory, or was killed."""
    total = total_parameters(shapes(model, s.get("layers")))
    method = methods.build(entry["name"], entry["config"], entry["fraction"], seed, PAPER_STEPS)
    if why := lacking(
        demand_of(method, total, 0, weights=weight_bytes(model, s)), here, s
    ):  # what trains densely, beside which a frozen warm-up stands
        return {"message": why}
    with ProcessPoolExecutor(1, mp_context=server) as pool:
        try:
            return pool.submit(weigh, model, s, entry, checkpointing, seed, PAPER_STEPS).result()
        except BrokenProcessPool:  # the kernel's answer to too little memory
            return {"message": "the process was killed, most likely for want of memory"}

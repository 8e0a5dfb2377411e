"""SpIEL's table 3: memory and time of a training step of LoRA and SpIEL, without and with activation checkpointing.

Claims (SpIEL, section 5.2): without checkpointing the SpIEL methods need less memory than LoRA (7B: 34 and 30 GB against 40);
SpIEL-MA is consistently faster and needs less than SpIEL-AG; checkpointing saves most with LoRA; LoRA is generally slightly
faster than the SpIEL methods.

Stated there: LoRA rank 64 and as many deltas on all linear layers of the blocks, dropout 0.1, updates every 20 steps after an
estimation over 5; bf16 weights, float32 adapters and deltas; batches of 128 examples of at most 2,048 tokens on one A100. Memory
is the smallest limit, in GiB, at which 30 steps succeed, time the mean of these steps (appendix F).

Decided: rank 64 is 1/64 of the width of LLaMA-7B; models narrower than that get a rank of 1/64 of theirs, or the fractions asked
for. How many tokens a forward pass had is not stated: steps are of one micro-batch, so that absolute numbers do not compare,
ratios to LoRA do. Memory is counted exactly, in a process per method, and times are taken in turns, over as many steps as lie
between two updates of the deltas; on a GPU the paper's protocol comes on top. SpIEL's "sampled" rows compute gradients at the
deltas alone (appendix E), which the paper left for the future. (IA)^3 and full fine-tuning are not in the printed table.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from smt_bench import methods
from smt_bench.experiments.cost.memory.experiment import weighed
from smt_bench.experiments.cost.speed.experiment import RATE, maker
from smt_bench.experiments.cost.spiel_cost.limit import GIB, STEPS, limit_of
from smt_bench.experiments.cost.spiel_cost.tables import label, write_spiel_cost
from smt_bench.experiments.cost.steps import StepsExperiment, lacking, weight_bytes
from smt_bench.machine import fits
from smt_bench.machine.watch import Watcher
from smt_bench.measuring.contestant import Contestant
from smt_bench.measuring.random_inputs import random_batch, random_model
from smt_bench.measuring.turns import take_turns
from smt_bench.measuring.updaters import UPDATERS
from smt_bench.methods import sampled
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.modules import numel, targeted, total_parameters
from smt_bench.methods.spiel.config import ScheduleConfig
from smt_bench.models.build import shapes as shapes_of
from smt_bench.questions.capacity import demand_of
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Measurement
from smt_bench.records.store import Record

METHODS = ("full", "lora", "peft:ia3", "spiel", "spiel-ma")
RANK, WIDTH = 64, 4096  # the paper's rank, at this width
SCHEDULE = {"update_every": 20, "estimate_steps": 5}
DROPOUT = 0.1
RUN_STEPS = 782  # of the paper's runs: 100,000 examples in batches of 128
PARTS = ("memory", "time", "limit")


def rank_of(width: int) -> int:
    """The rank that is to this width what 64 is to LLaMA-7B's; 64 for wider models."""
    return max(1, min(RANK, round(RANK * width / WIDTH)))


class SpielCost(StepsExperiment):
    """Table 3, and what its protocol leaves out."""

    name = "spiel-cost"
    reproduces = "SpIEL table 3: memory and time of a step, LoRA against SpIEL, without and with checkpointing"
    needs = "any model, no weights, no data; bench-60m is made for it"
    version = 1
    repeats = ("account",)

    def method_names(self, planner: Planner) -> list[str]:
        """The paper's, with (IA)^3 and full fine-tuning; or those asked for."""
        return planner.method_names(METHODS)

    def _fractions(self, planner: Planner) -> list[float]:
        """Those asked for, else the rank's."""
        if planner.request.fractions_pct:
            return planner.fractions()
        shapes = targeted(planner.shapes, planner.has(ScheduleConfig().targets))
        width = planner.shapes[next(n for n in planner.shapes if "embed" in n)][-1] if shapes else WIDTH
        adapters = sum(rank_of(width) * sum(shape) for shape in shapes.values())
        return [adapters / sum(numel(shape) for shape in planner.shapes.values())]

    def _changes(self, planner: Planner, name: str) -> dict[str, Any]:
        """What the paper says of a method's settings."""
        kind = methods.find(name).Config
        if issubclass(kind, ScheduleConfig):
            return dict(SCHEDULE)
        if name != "lora":
            return {}
        asked = planner.request.targets
        return {"dropout": DROPOUT} | ({} if asked else {"targets": planner.has(ScheduleConfig().targets)})

    def _entries(self, planner: Planner) -> list[dict[str, Any]]:
        made = []
        device = "cuda" if planner.here.gpus else "cpu"
        for name in self.method_names(planner):
            kind = methods.find(name)
            for fraction in self._fractions(planner) if kind.takes_fraction else [None]:
                changes = self._changes(planner, name)
                if not planner.takes(name, fraction, **changes):
                    continue
                config = planner.config(name, RUN_STEPS, **changes)
                entry: dict[str, Any] = {
                    "name": name, "version": kind.version, "fraction": fraction, "config": config, "variant": "",
                }  # fmt: skip
                if (half := planner.half(name, fraction, config, RUN_STEPS)) is not None:
                    entry["half"] = half
                made.append(entry)
                alone = issubclass(kind.Config, ScheduleConfig) and config.get("gradient") != "sampled"
                if alone and fraction is not None and fraction <= sampled.LIMITS[device]:
                    made.append({**entry, "config": {**config, "gradient": "sampled"}, "variant": "sampled"})
        return made

    def check(self, planner: Planner) -> None:
        """Every method must be possible at its fraction.

        Raises:
            ValueError: one is not.
        """
        super().check(planner)
        for entry in self._entries(planner):
            planner.check_capacity(entry["name"], entry["fraction"], **self._changes(planner, entry["name"]))

    def settings(self, planner: Planner) -> dict[str, Any]:
        """The steps, and how many."""
        sizes = self.settings_of_steps(planner)
        asked = planner.request.checkpointing
        sizes["checkpointing"] = [False, True] if asked is None else [asked]
        rounds = planner.request.steps or (2 if planner.request.smoke else SCHEDULE["update_every"])
        found = {"methods": self._entries(planner), **sizes, "steps": rounds, "run_steps": RUN_STEPS}
        return found | ({"base_of": "all parts"} if "base" in sizes else {})  # once only memory was counted over it

    def runs(self, planner: Planner) -> list[tuple[Measurement, None]]:
        """Bytes once, since they do not depend on the seed; times for every seed; on a GPU the paper's protocol, once."""
        found = [measurement for measurement, _ in super().runs(planner)]

        def part(of: Measurement, name: str, **more: Any) -> tuple[Measurement, None]:
            return replace(of, settings={"part": name, **of.settings, **more}), None

        made = [part(found[0], "memory"), *(part(one, "time") for one in found)]
        if planner.here.gpus:
            made.append(part(found[0], "limit", steps=planner.request.steps or STEPS))
        return made

    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """One part of the table, a row per method and checkpointing; what does not fit has a message.

        Raises:
            MemoryError: nothing fits.
        """
        s, model = measurement.settings, inputs.source(measurement.model)
        jobs = [(entry, kind) for kind in s["checkpointing"] for entry in s["methods"]]
        rows = {"memory": self._memory, "time": self._time, "limit": self._limit}[s["part"]](
            measurement, model, jobs, watch, inputs
        )
        if all("message" in row for row in rows):
            raise MemoryError("; ".join(f"{row['name']}: {row['message']}" for row in rows))
        return {"rows": rows}

    def _memory(
        self, measurement: Measurement, model: str, jobs: list[tuple[dict[str, Any], bool]], watch: Watcher, inputs: Inputs
    ) -> list[dict[str, Any]]:  # fmt: skip
        s, here, server = measurement.settings, fits.here(), forked(measurement.settings)
        rows = []
        for done, (entry, checkpointing) in enumerate(jobs):
            name = f"{label(entry)}, {checkpointing}"
            watch("memory", done, len(jobs), name)
            found = inputs.rows.get(name)
            if found is None:
                found = weighed(server, model, s, entry, checkpointing, measurement.seed, here)
                if "account" in found:  # what did not fit is tried again: there may be more memory by then
                    inputs.rows.put({name: found})
            rows.append({**_named(entry, checkpointing), **found})
        return rows

    def _time(
        self, measurement: Measurement, model: str, jobs: list[tuple[dict[str, Any], bool]], watch: Watcher, inputs: Inputs
    ) -> list[dict[str, Any]]:  # fmt: skip
        s, seed, here = measurement.settings, measurement.seed, fits.here()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        total = total_parameters(shapes_of(model, s.get("layers")))
        build = partial(random_model, model, s["precision"], device, seed, s.get("layers"), s.get("base", ""))
        batch = random_batch(model, s["batch_size"], s["length"], seed, device)
        weights, rows = weight_bytes(model, s), list[dict[str, Any]]()
        for checkpointing in s["checkpointing"]:
            own = [entry for entry, kind in jobs if kind is checkpointing]
            out = {
                label(e): lacking(demand_of(maker(e, e["config"], seed, s)(), total, 0, weights=weights), here, s)
                for e in own
            }
            contestants = [
                Contestant(
                    f"{label(e)}, {checkpointing}", maker(e, e["config"], seed, s), build,
                    updater=UPDATERS[s.get("optimizer_dtype", "fp32")],
                )
                for e in own
                if out[label(e)] is None
            ]  # fmt: skip
            scores = take_turns(
                contestants,
                s["steps"],
                batch,
                OptimizerSettings(RATE, fused=True),
                checkpointing,
                resident=device.type == "cpu" and len(own) * total * 16 < here.memory / 2,
                on_step=lambda done, total, name: watch("steps", done, total, name),
                rows=inputs.rows,
            )
            for entry in own:
                score = scores.get(f"{label(entry)}, {checkpointing}")
                message = out[label(entry)] if score is None else score.message
                row = _named(entry, checkpointing)
                if message is not None or score is None:
                    rows.append({**row, "message": message})
                else:
                    rows.append({**row, "step_s": [sum(step.values()) for step in score.seconds]})
        return rows

    def _limit(
        self, measurement: Measurement, model: str, jobs: list[tuple[dict[str, Any], bool]], watch: Watcher, inputs: Inputs
    ) -> list[dict[str, Any]]:  # fmt: skip
        s, server = measurement.settings, forked(measurement.settings)
        high = fits.here().gpus[0] // GIB
        rows = []
        for done, (entry, checkpointing) in enumerate(jobs):
            watch("limit", done, len(jobs), f"{label(entry)}, {checkpointing}")
            found = limit_of(server, model, s, entry, checkpointing, measurement.seed, high, inputs.rows)
            rows.append({**_named(entry, checkpointing), **found})
        return rows

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Table 3 in two halves, memory and time, with the verdicts."""
        return write_spiel_cost(records, folder, model)


def forked(s: dict[str, Any]) -> Any:
    """A server that has imported everything and computed nothing: every process forked from it starts alike."""
    server = multiprocessing.get_context("forkserver")
    modules = {methods.find(entry["name"]).__module__ for entry in s["methods"]}
    own = ("smt_bench.experiments.cost.memory.process", "smt_bench.experiments.cost.spiel_cost.limit")
    server.set_forkserver_preload([*own, *sorted(modules)])
    return server


def _named(entry: dict[str, Any], checkpointing: bool) -> dict[str, Any]:
    return {**{k: entry[k] for k in ("name", "variant", "fraction")}, "checkpointing": checkpointing}

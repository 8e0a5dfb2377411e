"""Table 1: time of a training step by method, part by part, against full fine-tuning and against what its FLOPs allow.

Claim (SMT, table 1): SMT is 14.6 times faster than full fine-tuning, LoRA 13.6, DoRA 13.5, SpIEL 9.6 times (LLaMA-7B, 4 A100
of 40 GB, batch 16). The full baseline there keeps its optimizer in main memory; SMT's steps leave selection out.

Here everything is on one device, all methods take turns in one process, and the ratio stands beside the ratio of FLOPs: with
the optimizer on the device, SMT against full fine-tuning saves the weight gradients (1.5 times) and the layers below its
lowest block, no more. The second table shows what a stated transfer model makes of the rest of the 14.6. Weights and tokens
are random: only sizes matter for time, but for SMT's choice of blocks, whose lowest layer the table states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smt_bench import methods
from smt_bench.experiments.cost.speed.tables import write_speed
from smt_bench.experiments.cost.steps import PAPER_STEPS, StepsExperiment, lacking, startable, weight_bytes, whole
from smt_bench.machine import fits
from smt_bench.machine.memory import release
from smt_bench.machine.states import Demand
from smt_bench.machine.watch import Watcher
from smt_bench.measuring.contestant import Contestant
from smt_bench.measuring.random_inputs import random_batch, random_model
from smt_bench.measuring.rates import rates
from smt_bench.measuring.turns import take_turns
from smt_bench.measuring.updaters import UPDATERS
from smt_bench.methods.base import Method, OptimizerSettings
from smt_bench.methods.modules import linears, total_parameters
from smt_bench.methods.spiel.method import Spiel
from smt_bench.models.build import config as config_of
from smt_bench.models.build import shapes as shapes_of
from smt_bench.plan.dry import Workload
from smt_bench.plan.dry_runs import DryRuns
from smt_bench.plan.gpu.roofline import FULL_RATES, compute_seconds
from smt_bench.questions.capacity import check_fraction
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Measurement
from smt_bench.records.store import Record

ROUNDS = 15
RATE = 1e-5  # learning rate; small, so that random weights stay where they are


def _label(entry: dict[str, Any]) -> str:
    fraction = "" if entry["fraction"] is None else f"{100 * entry['fraction']:g} %"
    return " ".join(part for part in (entry["name"], fraction, entry["variant"]) if part)


def _warmups(s: dict[str, Any], seed: int, build: Any, here: fits.Machine, total: int) -> list[Contestant]:
    """SMT's warm-up as configured and frozen, and the frozen model alone, which is what the frozen warm-up is measured by.

    A warm-up that trains everything does not take part where it was set off or cannot fit.
    """
    entry = next((e for e in s["methods"] if e["name"] == "smt"), None)
    if entry is None:
        return []
    kinds = {"smt frozen warm-up": False}
    if entry["config"]["warmup_trains"] and lacking(Demand("smt", total, 0, True), here, s) is None:
        kinds = {"smt warm-up": True, **kinds}
    updater = UPDATERS[s.get("optimizer_dtype", "fp32")]
    made = [
        Contestant(
            name, maker(entry, {**entry["config"], "warmup_trains": trains}, seed, s), build, True, updater=updater
        )
        for name, trains in kinds.items()
    ]
    return [
        *made,
        Contestant("frozen model", None, build, prepare=partial(_differentiate_outputs, entry["config"]["targets"])),
    ]


def maker(entry: dict[str, Any], config: dict[str, Any], seed: int, s: dict[str, Any]) -> Callable[[], Method]:
    """Makes a method, fresh at every call."""
    return partial(methods.build, entry["name"], config, entry["fraction"], seed, s["run_steps"])


def _differentiate_outputs(targets: Sequence[str], model: nn.Module) -> None:
    """A backward pass exactly as deep as scores need it: to the outputs of the targeted layers, with no weight gradient."""
    model.requires_grad_(False)

    def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output if output.requires_grad else output.requires_grad_(True)

    for _, linear in linears(model, targets):
        linear.register_forward_hook(hook)


class Speed(StepsExperiment):
    """All methods take turns, step by step."""

    name = "speed"
    reproduces = "SMT table 1: time of a training step, in parts, against full fine-tuning and the FLOP limit"
    needs = "any model, no weights, no data; bench-60m and bench-110m are made for it"
    version = 1
    repeats = ("entries", "tokens", "layers", "flops")

    def settings(self, planner: Planner) -> dict[str, Any]:
        """The steps, and how often each is taken."""
        rounds = planner.request.steps or (3 if planner.request.smoke else ROUNDS)
        return {**super().settings(planner), "rounds": rounds, "run_steps": PAPER_STEPS}

    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """Times the steps; milliseconds per phase and round, FLOPs and what each method made of its fraction."""
        s, seed, here = measurement.settings, measurement.seed, fits.here()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model, layers = inputs.source(measurement.model), s.get("layers")
        shapes = shapes_of(model, layers)
        total = total_parameters(shapes)
        build = partial(random_model, model, s["precision"], device, seed, layers, s.get("base", ""))
        updater = UPDATERS[s.get("optimizer_dtype", "fp32")]
        entries, contestants, messages = [], [], dict[str, str]()
        for entry in s["methods"]:
            label = _label(entry)
            capacity = maker(entry, entry["config"], seed, s)().capacity(shapes)
            check_fraction(entry["name"], entry["fraction"], capacity)
            config, why, out = startable(
                entry, total, capacity.trainable, here, s, s["run_steps"], weight_bytes(model, s)
            )
            named = {"label": label, "trainable": capacity.trainable, "total": capacity.total}
            entries.append({**entry, **named} | ({"note": why} if why else {}))
            if out is None:
                contestants.append(Contestant(label, maker(entry, config, seed, s), build, updater=updater))
            else:
                messages[label] = out
        contestants += _warmups(s, seed, build, here, total)
        predicted = self._predicted(measurement, entries, device, inputs)
        batch = random_batch(model, s["batch_size"], s["length"], seed, device)
        wanted = len(contestants) * total * 16  # bytes, were all of them to train densely
        scores = take_turns(
            contestants,
            s["rounds"],
            batch,
            OptimizerSettings(RATE, fused=True),
            s["checkpointing"],
            resident=device.type == "cpu" and wanted < here.memory / 2,
            on_step=lambda done, total, name: watch("steps", done, total, name),
            rows=inputs.rows,
        )
        messages |= {name: score.message for name, score in scores.items() if score.message is not None}
        if all(entry["label"] in messages for entry in entries):
            raise MemoryError("; ".join(f"{name}: {message}" for name, message in messages.items()))
        done = {name: score for name, score in scores.items() if score.message is None}
        spiel = {_label(e): maker(e, e["config"], seed, s)() for e in s["methods"] if e["name"] == "spiel"}
        tuned = {e["label"] for e in entries}
        return {
            "entries": entries,
            "tokens": batch.tokens,
            "layers": config_of(model, layers).get_text_config().num_hidden_layers,
            "flops": {name: score.flops for name, score in done.items()},
            "milliseconds": {
                name: [{k: round(1e3 * v, 4) for k, v in step.items()} for step in score.seconds]
                for name, score in done.items()
            },
            "estimating": {
                name: [bool(method.phase(step)) for step in done[name].numbers]
                for name, method in spiel.items()
                if name in done and isinstance(method, Spiel)
            },
            "selection_ms": {
                name: round(1e3 * score.selection, 4)
                for name, score in done.items()
                if score.selection is not None and name in tuned
            },
            "described": {name: score.described for name, score in done.items() if name in tuned},
            "messages": messages,
            "roofline": predicted,
            "whole": whole(model, s),
        }

    def _predicted(
        self, measurement: Measurement, entries: list[dict[str, Any]], device: torch.device, inputs: Inputs
    ) -> dict[str, Any]:
        """What a roofline under this device's measured rates says of every tuning step: the rates, and ms by label."""
        if (kept := inputs.rows.get("roofline")) is not None:
            return dict(kept)
        s, model = measurement.settings, inputs.source(measurement.model)
        reached = rates(device)
        release()
        workload = Workload(
            model, s["batch_size"], s["length"], s["precision"], s["checkpointing"], gpu=device.type == "cuda",
            optimizer_dtype=s.get("optimizer_dtype", "fp32"), layers=s.get("layers"), base=s.get("base", ""),
        )  # fmt: skip
        runs, found = DryRuns(workload), dict[str, float]()
        for entry in entries:
            try:
                dry = runs.run(entry["name"], entry["config"], entry["fraction"], s["run_steps"])
            except ValueError:  # products of experts in float32
                continue
            seconds = compute_seconds(
                dry.operations["tuning"], reached["bf16"], reached["fp32"], reached["bandwidth"], FULL_RATES
            )
            found[entry["label"]] = round(1e3 * seconds, 4)
        predicted = {"rates": reached, "step_ms": found}
        inputs.rows.put({"roofline": predicted})
        return predicted

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Table 1, its parts, the decomposition of the paper's ratio, and a figure."""
        return write_speed(records, folder, model)

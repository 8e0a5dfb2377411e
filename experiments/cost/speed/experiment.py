"""Table 1: time of a training step by method, part by part, against full fine-tuning and against what its FLOPs allow.

Claim (SMT, table 1): SMT is 14.6 times faster than full fine-tuning, LoRA 13.6, DoRA 13.5, SpIEL 9.6 times (LLaMA-7B, 4 A100
of 40 GB, batch 16). The full baseline there keeps its optimizer in main memory; SMT's steps leave selection out.

Here everything is on one device, all methods take turns in one process, and the ratio stands beside the ratio of FLOPs: with
the optimizer on the device, SMT against full fine-tuning saves the weight gradients (1.5 times) and the layers below its
lowest block, no more. The second table shows what a stated transfer model makes of the rest of the 14.6. Weights and tokens
are random: only sizes matter for time, but for SMT's choice of blocks, whose lowest layer the table states.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smt_bench import methods
from smt_bench.experiments.cost.speed.tables import write_speed
from smt_bench.experiments.cost.steps import PAPER_STEPS, StepsExperiment
from smt_bench.machine import fits
from smt_bench.machine.watch import Watcher
from smt_bench.measuring.turns import Contestant, random_batch, random_model, take_turns
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.modules import linears, total_parameters
from smt_bench.methods.spiel.method import Spiel
from smt_bench.models.build import config as config_of
from smt_bench.models.build import shapes as shapes_of
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


def _warmups(s: dict[str, Any], seed: int, build: Any) -> list[Contestant]:
    """SMT's warm-up as configured and frozen, and the frozen model alone, which is what the frozen warm-up is measured by."""
    entry = next((e for e in s["methods"] if e["name"] == "smt"), None)
    if entry is None:
        return []
    made = [
        Contestant(
            name,
            methods.build("smt", {**entry["config"], "warmup_trains": trains}, entry["fraction"], seed, s["run_steps"]),
            build,
            warmup=True,
        )
        for name, trains in (("smt warm-up", True), ("smt frozen warm-up", False))
    ]
    return [
        *made,
        Contestant("frozen model", None, build, prepare=partial(_differentiate_outputs, entry["config"]["targets"])),
    ]


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

    def settings(self, planner: Planner) -> dict[str, Any]:
        """The steps, and how often each is taken."""
        rounds = planner.request.steps or (3 if planner.request.preset else ROUNDS)
        return {**super().settings(planner), "rounds": rounds, "run_steps": PAPER_STEPS}

    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """Times the steps; milliseconds per phase and round, FLOPs and what each method made of its fraction."""
        s, seed = measurement.settings, measurement.seed
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = inputs.source(measurement.model)
        shapes = shapes_of(model)
        build = partial(random_model, model, s["precision"], device, seed)
        entries, contestants = [], []
        for entry in s["methods"]:
            method = methods.build(entry["name"], entry["config"], entry["fraction"], seed, s["run_steps"])
            capacity = method.capacity(shapes)
            check_fraction(entry["name"], entry["fraction"], capacity)
            label = _label(entry)
            entries.append({**entry, "label": label, "trainable": capacity.trainable, "total": capacity.total})
            contestants.append(Contestant(label, method, build))
        contestants += _warmups(s, seed, build)
        batch = random_batch(model, s["batch_size"], s["length"], seed, device)
        wanted = len(contestants) * total_parameters(shapes) * 16  # bytes, were all of them to train densely
        taken, flops = take_turns(
            contestants,
            s["rounds"],
            batch,
            OptimizerSettings(RATE, fused=True),
            s["checkpointing"],
            resident=device.type == "cpu" and wanted < fits.here().memory / 2,
            on_step=lambda done, total, name: watch("steps", done, total, name),
        )
        estimating = {
            c.name: [bool(c.method.phase(step)) for step in range(2, s["rounds"] + 2)]  # step 1 was not timed
            for c in contestants
            if isinstance(c.method, Spiel)
        }
        return {
            "entries": entries,
            "tokens": batch.tokens,
            "layers": config_of(model).get_text_config().num_hidden_layers,
            "flops": flops,
            "milliseconds": {
                name: [{k: round(1e3 * v, 4) for k, v in step.items()} for step in steps]
                for name, steps in taken.items()
            },
            "estimating": estimating,
            "selection_ms": {
                c.name: round(1e3 * c.seconds, 4) for c in contestants if c.seconds is not None and c.in_warmup is False
            },
            "described": {c.name: c.method.describe() for c in contestants if c.method is not None and not c.warmup},
        }

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Table 1, its parts, the decomposition of the paper's ratio, and a figure."""
        return write_speed(records, folder, model)

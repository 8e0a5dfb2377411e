"""What does a device reach, and what do steps of an architecture take on it? Against a roofline and the counted bytes."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from smt_bench import methods
from smt_bench.checks.report import Findings
from smt_bench.machine import fits, memory
from smt_bench.measuring.contestant import Contestant, now
from smt_bench.measuring.random_inputs import random_batch, random_model
from smt_bench.measuring.rates import rates
from smt_bench.measuring.updaters import UPDATERS
from smt_bench.methods.base import OptimizerSettings, Shapes
from smt_bench.models import build
from smt_bench.plan.dry import Workload
from smt_bench.plan.dry_runs import DryRuns
from smt_bench.plan.gpu.hardware import recognised
from smt_bench.plan.gpu.roofline import FULL_RATES, compute_seconds
from smt_bench.questions.capacity import demand_of

STEPS, FRACTION = 1000, 0.0084
# Method, settings, type of the optimizer's state, label.
CASES: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("smt", {"warmup_trains": False, "warmup_steps": 2}, "fp32", "smt"),
    ("lora", {"dropout": 0.05}, "fp32", "lora"),
    ("lora", {"dropout": 0.0}, "fp32", "lora, no dropout"),
    ("dora", {"dropout": 0.05}, "fp32", "dora"),
    ("spiel", {}, "fp32", "spiel"),
    ("full", {}, "fp32", "full"),
    ("full", {}, "bf16", "full, bf16 Adam"),
)
LEAST, MOST = 0.3, 1.05  # of the datasheet: below, something else runs here; above, the clock is wrong
NEAR = 0.25  # of the counted bytes; the allocator's rounding, fragmentation and workspaces are not counted
AT_LEAST = 40.0  # seconds that must be left for another case
ROUNDS = 6
SHARES = (1, 2, 4)  # of what does not fit whole, half or a quarter of the layers is measured
ROOM = 0.95  # of a card, that the counted peak may take


def reached(found: Findings, device: torch.device) -> None:
    """Rates of products and copies, against the datasheet where the card is known."""
    with found.guarded("rates", "products and copies"):
        got = rates(device)
        card = None
        if device.type == "cuda":
            whole = torch.cuda.get_device_properties(device).total_memory
            card = recognised(torch.cuda.get_device_name(device), whole)
        peaks = {} if card is None else {"bf16": card.bf16, "fp32": card.fp32, "bandwidth": card.bandwidth}
        for name, rate in got.items():
            says = f"{rate / 1e9:,.4g} GB/s" if name == "bandwidth" else f"{rate / 1e12:,.4g} TFLOP/s"
            verdict = "noted"
            if name in peaks:
                share = rate / peaks[name]
                verdict = "pass" if LEAST <= share <= MOST else "FAIL"
                says += f", {share:.0%} of the datasheet's"
            found.add(
                "rates", "copies" if name == "bandwidth" else f"{name} products", verdict, says, name=name, rate=rate
            )


def rates_of(found: Findings) -> dict[str, float]:
    """What `reached` found, by name of the rate; empty where it was not asked."""
    return {f.numbers["name"]: f.numbers["rate"] for f in found.found if f.part == "rates" and "rate" in f.numbers}


def cost(
    found: Findings,
    device: torch.device,
    got: dict[str, float],
    model: str,
    layers: int | None,
    batch: int,
    length: int,
) -> None:
    """Steps of the architecture by method, with and without checkpointing: time, peak, and what was to be expected.

    Args:
        found: where findings go.
        device: where.
        got: `rates_of`.
        model: whose architecture.
        layers: of it; None: all.
        batch: examples.
        length: tokens of each.
    """
    precision = "bf16" if device.type == "cuda" else "fp32"
    for checkpointing in (True, False):
        for name, config, kind, label in CASES:
            if kind == "bf16" and precision == "fp32":
                continue
            what = f"{label}, {'with' if checkpointing else 'without'} checkpointing"
            if found.had("cost", what):
                continue
            if found.left < AT_LEAST:
                found.add("cost", what, "skipped", f"{found.left:.0f} s are left")
                continue
            workload = Workload(
                model, batch, length, precision, checkpointing, gpu=device.type == "cuda", optimizer_dtype=kind, layers=layers
            )  # fmt: skip
            with found.guarded("cost", what, may_exhaust=True):
                _case(found, what, name, config, workload, device, got)


def _case(
    found: Findings,
    what: str,
    name: str,
    config: dict[str, Any],
    workload: Workload,
    device: torch.device,
    got: dict[str, float],
) -> None:
    here = fits.here() if device.type == "cuda" else fits.Machine((), fits.here().memory)
    room = ROOM * max(here.gpus) if here.gpus else fits.MEMORY_SHARE * here.memory
    own = build.config(workload.model, workload.layers).get_text_config().num_hidden_layers
    fraction, first = FRACTION if methods.find(name).takes_fraction else None, ""
    for share in SHARES:
        if share > 1:
            workload = replace(workload, layers=max(1, own // share))
        shapes = build.shapes(workload.model, workload.layers)
        settings = {**config, "block_size": "auto"} if name == "smt" and _narrow(shapes) else config
        make = partial(methods.build, name, settings, fraction, 0, STEPS)
        capacity = make().capacity(shapes)
        demand = demand_of(make(), capacity.total, capacity.trainable, capacity.kept)
        why = fits.lacking(demand, here, workload.precision, workload.optimizer_dtype)
        if why is None:
            dry = DryRuns(workload).run(name, settings, fraction, STEPS)
            planned = max(phase.peak_bytes for phase in dry.account.phases)
            why = None if planned <= room else f"needs {planned / 1e9:.3g} GB, there are {room / 1e9:.3g}"
        if why is None:
            break
        first = first or why
    else:
        found.add("cost", what, "skipped", first)
        return
    case = what
    if workload.layers is not None and workload.layers < own:
        what += f", {workload.layers} of {own} layers"
    planned = dry.account.peak("tuning").peak_bytes
    contestant = Contestant(
        what,
        make,
        partial(random_model, workload.model, workload.precision, device, 0, workload.layers),
        selecting=1,
        updater=UPDATERS[workload.optimizer_dtype],
    )
    try:
        inputs = random_batch(workload.model, workload.batch, workload.length, 0, device)
        contestant.open(inputs, OptimizerSettings(1e-5, fused=True), workload.checkpointing)
        for _ in range(2):
            contestant.step()
        memory.end_phase()
        taken = [_whole(contestant) for _ in range(ROUNDS)]
        peak = memory.end_phase().get("gpu0_peak")
        reserved = torch.cuda.memory_reserved(device) if device.type == "cuda" else None
        parts = contestant.step()
    except Exception as error:
        if memory.exhausted(error) and device.type == "cuda" and planned < 0.8 * max(here.gpus):
            raise RuntimeError(f"out of memory, though {planned / 1e9:.1f} GB were counted") from error
        raise
    finally:
        contestant.close(describe=False)
    step = statistics.median(taken)
    numbers: dict[str, Any] = {
        "step_ms": 1e3 * step, "planned_bytes": planned, "peak_bytes": peak, "reserved_bytes": reserved,
        "trainable": capacity.trainable, "total": capacity.total, "parts_ms": {k: 1e3 * v for k, v in parts.items()},
        "layers": workload.layers, "case": case,
    }  # fmt: skip
    says = f"{1e3 * step:,.1f} ms a step"
    if got:
        limit = compute_seconds(dry.operations["tuning"], got["bf16"], got["fp32"], got["bandwidth"], FULL_RATES)
        numbers["roofline_ms"] = 1e3 * limit
        says += f", {step / limit:.2f} times the roofline's"
    verdict = "noted"
    if peak is not None:
        verdict = "pass" if abs(peak / planned - 1) <= NEAR else "FAIL"
        says += f"; peak {peak / 1e9:.2f} GB, counted {planned / 1e9:.2f}"
    found.add("cost", what, verdict, says, **numbers)


def _narrow(shapes: Shapes) -> bool:
    """Whether no matrix can be cut into the paper's blocks."""
    return all(n % 256 for shape in shapes.values() for n in shape)


def _whole(contestant: Contestant) -> float:
    """Seconds of a step without waiting between its phases."""
    start = now()
    contestant.run()
    return now() - start

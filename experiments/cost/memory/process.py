"""What one method's step needs, found in a process of its own."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch

from smt_bench import methods
from smt_bench.experiments.cost.steps import weight_bytes
from smt_bench.machine import memory
from smt_bench.measuring.accountant import Accountant
from smt_bench.measuring.contestant import Contestant
from smt_bench.measuring.random_inputs import random_batch, random_model
from smt_bench.measuring.updaters import UPDATERS
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.smt.layer import SparseLinear
from smt_bench.models.build import shapes as shapes_of
from smt_bench.models.precision import attend
from smt_bench.plan.dry import Workload
from smt_bench.plan.dry_runs import DryRuns
from smt_bench.questions.capacity import demand_of
from smt_bench.records.outcome import first_line, portable
from smt_bench.training.loss import enable_checkpointing

RATE = 1e-5


def weigh(
    model: str, settings: dict[str, Any], entry: dict[str, Any], checkpointing: bool, seed: int, steps: int
) -> dict[str, Any]:
    """Peak bytes of real steps by phase, then the exact account of one.

    Args:
        model: name.
        settings: of the measurement: sizes and precision.
        entry: method, config, fraction.
        checkpointing: recompute activations.
        seed: of weights and tokens.
        steps: of the run that the method's config was made for; no byte depends on it.

    Returns:
        `account`, `planned` (the same account on fake tensors, as `plan` makes it), `trainable`, `total`, `rule_bytes` (states by
        `machine.states`), `peaks` (by phase, above what the process had before the model), `peak_bytes` (their highest), and for
        SMT `kept`. Where memory was too small, in place of these `message`, with the phase in which it was.
    """
    warnings.simplefilter("ignore")  # libraries' warnings are for developers; this process has filters of its own
    doing = ["building the model"]
    try:
        return _weigh(model, settings, entry, checkpointing, seed, steps, doing)
    except Exception as error:
        if not memory.exhausted(error):
            raise
        return {"message": f"out of memory while {doing[-1]}: {portable(first_line(error))}"}


def _weigh(
    model: str,
    settings: dict[str, Any],
    entry: dict[str, Any],
    checkpointing: bool,
    seed: int,
    steps: int,
    doing: list[str],
) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layers, kind = settings.get("layers"), settings.get("optimizer_dtype", "fp32")
    shapes, updater = shapes_of(model, layers), UPDATERS[kind]

    def build() -> Any:
        made = random_model(model, settings["precision"], device, seed, layers, settings.get("base", ""))
        attend(made, settings["length"])  # as training does
        return made

    batch = random_batch(model, settings["batch_size"], settings["length"], seed, device)
    make = partial(methods.build, entry["name"], entry["config"], entry["fraction"], seed, steps)
    method = make()
    capacity = method.capacity(shapes)
    rule = demand_of(method, capacity.total, capacity.trainable, capacity.kept, weight_bytes(model, settings))
    contestant = Contestant(entry["name"], make, build, selecting=1, updater=updater)
    contestant.batch, contestant.settings = batch, OptimizerSettings(RATE)
    memory.end_phase()
    before, peaks = _peak(device), dict[str, int]()
    contestant.load()
    peaks["load"] = _peak(device) - before
    if checkpointing:
        enable_checkpointing(contestant.model)
    warms = method.warmup_steps > 0
    doing.append("warming up and choosing" if warms else "attaching")
    contestant.select()
    peaks["warmup" if warms else "attach"] = _peak(device) - before
    doing.append("tuning")
    for _ in range(2):
        contestant.step()
    peaks["tuning"] = _peak(device) - before
    kept = _kept(contestant)
    contestant.close()
    doing.append("counting")
    counted = build()
    eager = counted.config._attn_implementation == "eager"
    run = Accountant(
        counted, make(), OptimizerSettings(RATE), batch.ids_BT, batch.labels_BT, checkpointing, updater=updater
    )
    found = run.whole()
    workload = Workload(
        model,
        settings["batch_size"],
        settings["length"],
        settings["precision"],
        checkpointing,
        gpu=device.type == "cuda",
        optimizer_dtype=kind,
        attention="eager" if eager else "flash",
        layers=layers,
        base=settings.get("base", ""),
    )
    try:
        planned = DryRuns(workload).run(entry["name"], entry["config"], entry["fraction"], steps).account.to_dict()
    except ValueError:  # products of experts in float32
        planned = None
    return {
        "account": found.to_dict(),
        "planned": planned,
        "saved_activations": found.saved_activations(),
        "trainable": capacity.trainable,
        "total": capacity.total,
        "rule_bytes": rule.states(settings["precision"], kind),
        "peaks": peaks,
        "peak_bytes": max(peaks.values()),
        "kept": kept,
    }


def _peak(device: torch.device) -> int:
    """Bytes at most since the last call; where the process's peak cannot be reset, since its start."""
    found = memory.end_phase()
    name = "gpu0_peak" if device.type == "cuda" else "process_peak"
    return found[name] if name in found else memory.peak_memory()["process_peak_since_start"]


def _kept(contestant: Contestant) -> dict[str, int] | None:
    """Bytes that SMT's sparse layers keep of their inputs in one forward pass, counted at the layers, and what they could be.

    `kept_bytes` is measured; `formula_bytes` is distinct columns x tokens x element size, one copy per shared input;
    `unshared_bytes` the same with a copy per layer; `views_bytes` what views of the inputs would hold alive.
    """
    layers = [m for m in contestant.model.modules() if isinstance(m, SparseLinear)]
    if not layers:
        return None
    kept: dict[int, int] = {}
    inputs: dict[int, int] = {}

    def hook(layer: Any, args: tuple[torch.Tensor, ...]) -> None:
        x = args[0]
        inputs[id(layer.shared)] = x.numel() * x.element_size()
        columns = layer.shared.keep(x.detach())
        kept[id(layer.shared)] = columns.untyped_storage().nbytes()

    hooks = [layer.register_forward_pre_hook(hook) for layer in layers]
    with torch.no_grad():
        contestant.loss()
    for handle in hooks:
        handle.remove()
    tokens, size = contestant.batch.ids_BT.numel(), layers[0].weight.element_size()
    shared: dict[int, set[int]] = {}
    for layer in layers:
        shared.setdefault(id(layer.shared), set()).update(column for _, column in layer.index)
    per_column = tokens * layers[0].width * size
    return {
        "kept_bytes": sum(kept.values()),
        "formula_bytes": per_column * sum(map(len, shared.values())),
        "unshared_bytes": per_column * sum(len({column for _, column in layer.index}) for layer in layers),
        "views_bytes": sum(inputs.values()),
        "layers": len(layers),
        "inputs": len(shared),
    }

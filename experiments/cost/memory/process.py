"""What one method's step needs, found in a process of its own."""

from __future__ import annotations

import resource
import warnings
from functools import partial
from typing import Any

import torch

from smt_bench import methods
from smt_bench.measuring.accountant import account
from smt_bench.measuring.turns import Contestant, random_batch, random_model
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.smt.layer import SparseLinear
from smt_bench.models.build import shapes as shapes_of
from smt_bench.plan.dry import DryRuns, Workload

RATE = 1e-5


def weigh(
    model: str, settings: dict[str, Any], entry: dict[str, Any], checkpointing: bool, seed: int, steps: int
) -> dict[str, Any]:
    """Peak bytes of real steps, then the exact account of one.

    Args:
        model: name.
        settings: of the measurement: sizes and precision.
        entry: method, config, fraction.
        checkpointing: recompute activations.
        seed: of weights and tokens.
        steps: of the run that the method's config was made for; no byte depends on it.

    Returns:
        `account`, `planned` (the same account on fake tensors, as `plan` makes it), `trainable`, `total`, `peak_bytes` (above
        what the process had before the model), and for SMT `kept`.
    """
    warnings.simplefilter("ignore")  # libraries' warnings are for developers; this process has filters of its own
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shapes = shapes_of(model)
    build = partial(random_model, model, settings["precision"], device, seed)
    batch = random_batch(model, settings["batch_size"], settings["length"], seed, device)
    make = partial(methods.build, entry["name"], entry["config"], entry["fraction"], seed, steps)
    capacity = make().capacity(shapes)
    before = _peak(device)
    contestant = Contestant(entry["name"], make(), build, selecting=1)
    contestant.open(batch, OptimizerSettings(RATE), checkpointing)
    for _ in range(2):
        contestant.step()
    peak = _peak(device) - before
    kept = _kept(contestant)
    contestant.close()
    found = account(build(), make(), OptimizerSettings(RATE), batch.ids_BT, batch.labels_BT, checkpointing)
    workload = Workload(
        model,
        settings["batch_size"],
        settings["length"],
        settings["precision"],
        checkpointing,
        gpu=device.type == "cuda",
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
        "peak_bytes": peak,
        "kept": kept,
    }


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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

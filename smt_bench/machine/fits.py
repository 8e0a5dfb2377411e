"""Is this machine large enough? Asked before anything is downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from smt_bench.machine.spread import Spread

GB = 1e9
CPU_LIMIT = 1_000_000_000  # parameters; above, a CPU would take months
# Bytes per parameter. Dense in bf16: weight 2, gradient 2, and in float32 master 4, its gradient 4, Adam's moments 8. Dense in
# fp32: weight, gradient, two moments. Sparse: the weight, and about a tenth for what trains.
DENSE_BYTES = {"bf16": 20, "fp32": 16}
SPARSE_BYTES = {"bf16": 2.2, "fp32": 4.4}
ACTIVATIONS = 6 * GB  # with gradient checkpointing, batch 16 x 256 tokens, logits included; `plan` will do better
FRAMEWORK = 1 * GB  # per GPU: context and workspaces
MEMORY_SHARE = 0.9  # of main memory that a run may take


@dataclass(frozen=True)
class Machine:
    """What the hardware has.

    Attributes:
        gpus: bytes of every GPU's memory.
        memory: bytes of main memory.
    """

    gpus: tuple[int, ...]
    memory: int

    def __str__(self) -> str:
        gpus = ", ".join(f"{b / GB:.0f} GB" for b in self.gpus)
        gpu = f"{len(self.gpus)} GPU ({gpus})" if self.gpus else "no GPU"
        return f"{gpu}, {self.memory / GB:.0f} GB of main memory"


def here() -> Machine:
    """Looks around."""
    gpus = tuple(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    return Machine(gpus, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def on_cluster(spread: Spread) -> Machine:
    """What is planned for on a cluster whose login node need not have GPUs: as many of 80 GB, or CPUs as here."""
    found, gpus = here(), spread.gpus_per_run or 0
    if torch.version.cuda is not None and len(found.gpus) < gpus:
        return Machine((80_000_000_000,) * gpus, found.memory)
    return found


def device_map(parameters: int, here: Machine) -> str | None:
    """Large models on several GPUs have their layers spread over them; others live on one device."""
    return "balanced" if len(here.gpus) > 1 and parameters > CPU_LIMIT else None


def check(
    model: str,
    parameters: int,
    dense: Sequence[str],
    sparse: Sequence[str],
    here: Machine,
    spread: Spread,
    instead: Sequence[str] = (),
    kind: str | None = None,
) -> None:
    """Refuses a model that cannot be trained here.

    Args:
        model: name as given.
        parameters: of the base model.
        dense: methods asked for that train all parameters in some phase.
        sparse: the others.
        here: this machine.
        spread: of each run over it.
        instead: commands that would work here.
        kind: bf16 or fp32; None: by size.

    Raises:
        ValueError: what is needed, what was found, and what would work here.
    """
    kind = kind or ("bf16" if parameters > CPU_LIMIT else "fp32")
    own = replace(here, gpus=here.gpus[: spread.gpus_per_run])
    if own.gpus and spread.processes > 1:
        _check_share(model, parameters, dense, kind, min(own.gpus), spread)
        return
    states = _state_bytes(parameters, bool(dense), kind)
    room: float
    if own.gpus:
        used = own.gpus if device_map(parameters, own) else sorted(own.gpus)[-1:]
        need, room = states + ACTIVATIONS + FRAMEWORK * len(used), sum(used)
    else:
        need = states * spread.processes
        room = MEMORY_SHARE * own.memory if parameters <= CPU_LIMIT else 0
    if need <= room:
        return
    if parameters <= CPU_LIMIT:
        what = f"{need / GB:.1f} GB of memory"
    else:
        least = states + ACTIVATIONS
        what = f"{(least + 4 * FRAMEWORK) / GB:.0f} GB of GPU memory in all, e.g. 4 GPUs of at least "
        what += f"{(least / 4 + FRAMEWORK) / GB:.0f} GB each"
    if dense:
        what += f" ({', '.join(dense)} train all parameters at {DENSE_BYTES[kind]} bytes each)"
    methods = ", ".join([*dense, *sparse])
    lines = [
        f"model {model} ({parameters / 1e9:.2f} billion parameters) with {methods} does not fit this machine",
        f"  needed: {what}",
        f"  found:  {own}" + (f" for each run (--gpus-per-run {spread.gpus_per_run})" if spread.gpus_per_run else ""),
        "  would work here:",
        *(f"    {command}" for command in instead),
    ]
    raise ValueError("\n".join(lines))


def _state_bytes(parameters: int, dense: bool, kind: str) -> float:
    return parameters * (DENSE_BYTES if dense else SPARSE_BYTES)[kind]


def _check_share(model: str, parameters: int, dense: Sequence[str], kind: str, smallest: int, spread: Spread) -> None:
    """Refuses data-parallel processes whose share does not fit the `smallest` GPU.

    Raises:
        ValueError: what is needed, what was found, and what would do.
    """
    need = share_bytes(parameters, bool(dense), kind, spread)
    if need <= smallest:
        return
    sharded = [replace(spread, zero=stage) for stage in (2, 3)]
    fitting = [s.zero for s in sharded if share_bytes(parameters, bool(dense), kind, s) <= smallest]
    remedy = (
        f"add --zero {fitting[0]}" if fitting else "choose larger GPUs, or more with --zero 3, or --zero 3 --offload"
    )
    trains = f"{', '.join(dense)} train all parameters" if dense else "every process holds the model"
    raise ValueError(
        f"model {model} in {spread} needs {need / GB:.0f} GB on each GPU ({trains}), the smallest has "
        f"{smallest / GB:.0f} GB: {remedy}"
    )


def share_bytes(parameters: int, dense: bool, kind: str, spread: Spread) -> float:
    """Bytes on one of several data-parallel GPUs, by rule; `plan` counts.

    Args:
        parameters: of the base model.
        dense: whether some phase trains all of them.
        kind: bf16 or fp32.
        spread: over several processes.
    """
    n = spread.processes
    extra = ACTIVATIONS / n + FRAMEWORK
    if not dense:
        return _state_bytes(parameters, dense, kind) + extra
    weight = 2 if kind == "bf16" else 4
    states = weight if spread.offload else DENSE_BYTES[kind] - weight  # of what is offloaded the gradients stay
    held = weight / n if spread.zero == 3 else weight
    return parameters * (held + (states / n if spread.zero else states)) + extra

"""Is this machine large enough? Asked before anything is downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

GB = 1e9
CPU_LIMIT = 1_000_000_000  # parameters; above, a CPU would take months
# Bytes per parameter. Dense in bf16: weight 2, gradient 2, and in float32 master 4, its gradient 4, Adam's moments 8. Dense in
# fp32: weight, gradient, two moments. Sparse: the weight, and about a tenth for what trains.
DENSE_BYTES = {"bf16": 20, "fp32": 16}
SPARSE_BYTES = {"bf16": 2.2, "fp32": 4.4}
ACTIVATIONS = 6 * GB  # with gradient checkpointing, batch 16 x 256 tokens, logits included; `plan` will do better
FRAMEWORK = 1 * GB  # per GPU: context and workspaces


@dataclass(frozen=True)
class Machine:
    """What a run is given, and how it is spread over it.

    Attributes:
        gpus: bytes of every GPU's memory.
        memory: bytes of main memory.
        processes: data-parallel, one GPU each where there are GPUs; 1: the layers are spread over all GPUs.
        stage: of ZeRO, in phases that train all parameters; 0: none.
        offload: of their optimizer state.
    """

    gpus: tuple[int, ...]
    memory: int
    processes: int = 1
    stage: int = 0
    offload: bool = False

    def __str__(self) -> str:
        gpus = ", ".join(f"{b / GB:.0f} GB" for b in self.gpus)
        gpu = f"{len(self.gpus)} GPU ({gpus})" if self.gpus else "no GPU"
        return f"{gpu}, {self.memory / GB:.0f} GB of main memory"


def here() -> Machine:
    """Looks around."""
    gpus = tuple(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    return Machine(gpus, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def node(gpus: int) -> Machine:
    """What is planned for on a cluster whose login node need not have GPUs: so many of 80 GB, or CPUs as here."""
    found = here()
    if gpus and torch.version.cuda is not None and len(found.gpus) < gpus:
        return Machine((80_000_000_000,) * gpus, found.memory)
    return found


def precision(here: Machine) -> str:
    """bf16 on GPU, fp32 on CPU."""
    return "bf16" if here.gpus else "fp32"


def device_map(parameters: int, here: Machine) -> str | None:
    """Large models on several GPUs have their layers spread over them; others live on one device."""
    return "balanced" if len(here.gpus) > 1 and parameters > CPU_LIMIT else None


def check(
    model: str,
    parameters: int,
    dense: Sequence[str],
    sparse: Sequence[str],
    here: Machine,
    instead: Sequence[str] = (),
) -> None:
    """Refuses a model that cannot be trained here.

    Args:
        model: name as given.
        parameters: of the base model.
        dense: methods asked for that train all parameters in some phase.
        sparse: the others.
        here: this machine.
        instead: commands that would work here.

    Raises:
        ValueError: what is needed, what was found, and what would work here.
    """
    kind = precision(here) if parameters <= CPU_LIMIT else "bf16"
    if here.processes > 1 and here.gpus:
        _check_shares(model, parameters, dense, kind, here)
        return
    need = parameters * (DENSE_BYTES if dense else SPARSE_BYTES)[kind]
    if here.gpus:
        need += ACTIVATIONS + FRAMEWORK * len(here.gpus)
        spread = len(here.gpus) if parameters > CPU_LIMIT else 1
        fits = sum(sorted(here.gpus, reverse=True)[:spread]) >= need
    else:
        fits = parameters <= CPU_LIMIT and here.memory * 0.9 >= need * here.processes
    if fits:
        return
    if parameters <= CPU_LIMIT:
        what = f"{need / GB:.1f} GB of memory"
    else:
        least = parameters * (DENSE_BYTES if dense else SPARSE_BYTES)[kind] + ACTIVATIONS
        what = f"{(least + 4 * FRAMEWORK) / GB:.0f} GB of GPU memory in all, e.g. 4 GPUs of at least " + (
            f"{(least / 4 + FRAMEWORK) / GB:.0f} GB each"
        )
    methods = ", ".join([*dense, *sparse])
    lines = [
        f"model {model} ({parameters / 1e9:.2f} billion parameters) with {methods} does not fit this machine",
        f"  needed: {what}"
        + (f" ({', '.join(dense)} train all parameters at {DENSE_BYTES[kind]} bytes each)" if dense else ""),
        f"  found:  {here}",
        "  would work here:",
        *(f"    {command}" for command in instead),
    ]
    raise ValueError("\n".join(lines))


def _check_shares(model: str, parameters: int, dense: Sequence[str], kind: str, here: Machine) -> None:
    """Refuses data-parallel processes whose share does not fit the smallest GPU.

    Raises:
        ValueError: what is needed, what was found, and what would do.
    """
    smallest, n = min(here.gpus), here.processes
    needs = {
        stage: share_bytes(parameters, bool(dense), kind, n, stage, here.offload and stage > 0) for stage in (0, 2, 3)
    }
    if needs[here.stage] <= smallest:
        return
    fitting = [stage for stage in (2, 3) if needs[stage] <= smallest]
    remedy = (
        f"add --zero {fitting[0]}" if fitting else "choose larger GPUs, or more with --zero 3, or --zero 3 --offload"
    )
    trains = f"{', '.join(dense)} train all parameters" if dense else "every process holds the model"
    raise ValueError(
        f"model {model} in {n} processes needs {needs[here.stage] / GB:.0f} GB on each GPU ({trains}), the smallest has "
        f"{smallest / GB:.0f} GB: {remedy}"
    )


def share_bytes(parameters: int, dense: bool, kind: str, processes: int, stage: int, offload: bool) -> float:
    """Bytes on one of several data-parallel GPUs, by rule; `plan` counts.

    Args:
        parameters: of the base model.
        dense: whether some phase trains all of them.
        kind: bf16 or fp32.
        processes: in all.
        stage: of ZeRO.
        offload: of the optimizer.
    """
    extra = ACTIVATIONS / processes + FRAMEWORK
    if not dense:
        return parameters * SPARSE_BYTES[kind] + extra
    weight = 2 if kind == "bf16" else 4
    states = weight if offload else DENSE_BYTES[kind] - weight  # of what is offloaded the gradients stay
    held = weight / processes if stage == 3 else weight
    return parameters * (held + (states / processes if stage else states)) + extra

"""Is this machine large enough? Asked before anything is downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from smt_bench.machine.spread import Spread
from smt_bench.machine.states import WEIGHT, Demand

GB = 1e9
CPU_LIMIT = 1_000_000_000  # parameters; above, a CPU would take months
ACTIVATIONS = (
    6 * GB
)  # of TOKENS with gradient checkpointing, logits included; both grow with the tokens. `plan` will do better
TOKENS = 16 * 256  # of a forward pass
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


def lacking(demand: Demand, here: Machine, kind: str, optimizer_dtype: str = "fp32") -> str | None:
    """Why a method cannot take a single step on one device of this machine, whatever its activations are; None where it may.

    Args:
        demand: the method's.
        here: this machine.
        kind: precision, bf16 or fp32.
        optimizer_dtype: of the optimizer's state for the model's own weights.
    """
    need = demand.states(kind, optimizer_dtype)
    room = max(here.gpus) if here.gpus else MEMORY_SHARE * here.memory
    if need <= room:
        return None
    what = "weights, gradients and optimizer" if demand.dense else "weights and what trains"
    return f"does not fit: {what} alone need {need / GB:.3g} GB, there are {room / GB:.3g} GB"


def check(
    model: str,
    demands: Sequence[Demand],
    here: Machine,
    spread: Spread,
    instead: Sequence[str] = (),
    kind: str | None = None,
    tokens: int = TOKENS,
    judging: int = 0,
) -> None:
    """Refuses a model that cannot be trained here, or not be judged.

    Args:
        model: name as given.
        demands: of the methods asked for.
        here: this machine.
        spread: of each run over it.
        instead: commands that would work here.
        kind: bf16 or fp32; None: by size.
        tokens: of a forward pass, padding included.
        judging: bytes of one prompt while it is answered, beams and their cache included.

    Raises:
        ValueError: what is needed, what was found, and what would work here.
    """
    parameters = demands[0].parameters
    kind = kind or ("bf16" if parameters > CPU_LIMIT else "fp32")
    own = replace(here, gpus=here.gpus[: spread.gpus_per_run])
    if own.gpus and spread.processes > 1:
        _check_share(model, demands, kind, min(own.gpus), spread, tokens, judging)
        return
    states = max(d.states(kind) for d in demands)
    room: float
    if own.gpus:
        used = own.gpus if device_map(parameters, own) else sorted(own.gpus)[-1:]
        need, room = states + max(activations(tokens), judging) + FRAMEWORK * len(used), sum(used)
    else:
        need = states * spread.processes
        room = MEMORY_SHARE * own.memory if parameters <= CPU_LIMIT else 0
    if need <= room:
        return
    if parameters <= CPU_LIMIT:
        what = f"{need / GB:.1f} GB of memory"
    else:
        least = states + max(activations(tokens), judging)
        what = f"{(least + 4 * FRAMEWORK) / GB:.0f} GB of GPU memory in all, e.g. 4 GPUs of at least "
        what += f"{(least / 4 + FRAMEWORK) / GB:.0f} GB each"
    dense = [d.method for d in demands if d.dense]
    if dense:
        what += f" ({', '.join(dense)} train all parameters at {states / parameters:.0f} bytes each)"
    methods = ", ".join(sorted((d.method for d in demands), key=lambda name: name not in dense))
    lines = [
        f"model {model} ({parameters / 1e9:.2f} billion parameters) with {methods} does not fit this machine",
        f"  needed: {what}",
        f"  found:  {own}" + (f" for each run (--gpus-per-run {spread.gpus_per_run})" if spread.gpus_per_run else ""),
        "  would work here:",
        *(f"    {command}" for command in instead),
    ]
    raise ValueError("\n".join(lines))


def _check_share(
    model: str, demands: Sequence[Demand], kind: str, smallest: int, spread: Spread, tokens: int, judging: int
) -> None:
    """Refuses data-parallel processes whose share does not fit the `smallest` GPU.

    Raises:
        ValueError: what is needed, what was found, and what would do.
    """

    def most(how: Spread) -> float:
        return max(share_bytes(demand, kind, how, tokens, judging) for demand in demands)

    need = most(spread)
    if need <= smallest:
        return
    sharded = [replace(spread, zero=stage) for stage in (2, 3)]
    fitting = [s.zero for s in sharded if most(s) <= smallest]
    remedy = (
        f"add --zero {fitting[0]}" if fitting else "choose larger GPUs, or more with --zero 3, or --zero 3 --offload"
    )
    dense = [d.method for d in demands if d.dense]
    trains = f"{', '.join(dense)} train all parameters" if dense else "every process holds the model"
    raise ValueError(
        f"model {model} in {spread} needs {need / GB:.0f} GB on each GPU ({trains}), the smallest has "
        f"{smallest / GB:.0f} GB: {remedy}"
    )


def activations(tokens: int) -> float:
    """Bytes by rule."""
    return ACTIVATIONS * tokens / TOKENS


def share_bytes(demand: Demand, kind: str, spread: Spread, tokens: int = TOKENS, judging: int = 0) -> float:
    """Bytes on one of several data-parallel GPUs, by rule; `plan` counts.

    Args:
        demand: the method's.
        kind: bf16 or fp32.
        spread: over several processes.
        tokens: of a forward pass, over all processes.
        judging: bytes of one prompt while it is answered.
    """
    n = spread.processes
    extra = max(activations(tokens) / n, judging) + FRAMEWORK
    if not demand.dense:
        return demand.states(kind) + extra
    weight = demand.parameters * WEIGHT[kind]
    states: float = demand.update(kind)
    if spread.zero:  # DeepSpeed updates all at once: the gradients of all masters exist in float32
        states += (4 if kind == "bf16" else 0) * demand.parameters
    if spread.offload:  # the gradients stay
        states = weight
    return (weight / n if spread.zero == 3 else weight) + (states / n if spread.zero else states) + extra

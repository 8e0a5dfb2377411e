"""How a step's bytes divide over GPUs (ZeRO stages, offload to the host) under stated rules.

ZeRO (Rajbhandari et al., 2019) over N data-parallel GPUs, on the bytes of one GPU with its share of the batch:

    stage 1     optimizer state and master copies are divided by N
    stage 2     gradients as well
    stage 3     parameters as well; the largest layer is whole while it is used: 4 bytes per number of it
    offload     optimizer state, master copies and gradients live on the host; the host holds the 16 bytes per trained number
                of float32 gradients, masters and moments, with room for 1.5 times as much

For full fine-tuning these are DeepSpeed's own estimates (`estimate_zero2_model_states_mem_needs`: 2P + 18P/N, with offload 2P
and 24P on the host; `estimate_zero3_...`: 4L + 18P/N, where we count the 16-bit gradients too: 20P/N); tests compare them.
Activations, logits and temporaries are each GPU's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from smt_bench.machine.spread import Spread
from smt_bench.measuring.account import Account

HOST_FACTOR = 1.5  # DeepSpeed's `additional_buffer_factor`
_STATES = ("optimizer_state", "master_copies")
_OF_BATCH = ("saved_activations", "logits_loss")


def words(spread: Spread) -> str:
    """What each GPU holds, e.g. "ZeRO-3+offload"."""
    return spread.sharding or ("one GPU" if spread.processes == 1 else "whole copies")


def divide(peak: Mapping[str, int], spread: Spread, largest_layer: int, batch_share: float = 1.0) -> dict[str, int]:
    """Bytes per GPU by category.

    Args:
        peak: bytes by category of one GPU that holds everything.
        spread: over what; a process has one GPU.
        largest_layer: numbers in the largest single module.
        batch_share: examples per GPU against those of `peak`; activations and logits follow it.
    """
    n, found = spread.processes, dict(peak)
    for category in _OF_BATCH:
        found[category] = round(found[category] * batch_share)
    if spread.zero >= 1:
        for category in _STATES:
            found[category] = math.ceil(found[category] / n)
    if spread.zero >= 2:
        found["gradients"] = math.ceil(found["gradients"] / n)
    if spread.zero >= 3:
        found["parameters"] = math.ceil(found["parameters"] / n) + 4 * largest_layer
    if spread.offload:
        found |= dict.fromkeys((*_STATES, "gradients"), 0)
    return found


def host_bytes(trained: int, spread: Spread) -> int:
    """Main memory for all processes of a machine that offload `trained` numbers; 0 without offload."""
    return int(16 * trained * HOST_FACTOR) if spread.offload else 0


def per_gpu(
    account: Account, spread: Spread, largest_layer: int, batch_share: float = 1.0
) -> tuple[int, str, dict[str, int]]:
    """The peak of one GPU: bytes, where it is reached ("tuning backward"), bytes by category."""
    best: tuple[int, str, dict[str, int]] = (-1, "", {})
    for phase in account.phases:
        found = divide(phase.peak, spread, largest_layer, batch_share)
        total = sum(found.values())
        if total > best[0]:
            best = total, f"{phase.stage} {phase.phase}" if phase.stage != phase.phase else phase.stage, found
    return best

"""How long a step takes: every operation at the rate of what limits it, arithmetic or memory (a roofline per operation).

    compute   sum over operations of max(FLOPs / (m x peak of its dtype), bytes read and written / (b x memory bandwidth));
              the optimizer's are divided by N from ZeRO-1 on, and gone with offload
    link      data parallelism: all gradients once around the ring, 2 (N - 1) / N of their bytes; ZeRO-3 also gathers the
              parameters twice, (N - 1) / N of their bytes each time
    host      offload: gradients down and parameters up the host link, 2 bytes per trained number each, divided over N links;
              Adam there reads and writes 28 bytes per number (gradient, and master and moments both ways) at the host's
              memory rate, which all GPUs share
    step      compute + link + host: no overlap, since none is promised

The efficiencies m of matrix products and b of the memory are stated in every output: those that were measured on a card, else an
assumption; `calibrate` measures them. Links run at their peak. A first-order model: launches, padding and overlap are not in it.
Ratios between methods stand on firmer ground than seconds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch

from smt_bench.machine.spread import Spread
from smt_bench.plan.gpu.hardware import HOST_BANDWIDTH, Gpu

HALF = (torch.bfloat16, torch.float16)
ADAM_BYTES = 28  # per number on the host: gradient 4, master 4 + 4, two moments 8 + 8
WIRE_BYTES = 2  # per number that travels, bf16
Operations = Counter[tuple[bool, torch.dtype, int, int]]


@dataclass(frozen=True)
class Efficiency:
    """Reached shares of the peaks.

    Attributes:
        matrix: of matrix products.
        bandwidth: of the memory.
    """

    matrix: float
    bandwidth: float

    def __str__(self) -> str:
        return f"{self.matrix:.2g} of peak for products, {self.bandwidth:.2g} for memory"


EFFICIENCY = Efficiency(0.5, 0.5)  # assumed where nothing was measured; large-model training reports 0.4 to 0.6
FULL_RATES = Efficiency(1.0, 1.0)  # for rates that were measured themselves


def efficiency_of(gpu: Gpu) -> Efficiency:
    """What was measured on this kind of card, else the assumption."""
    if gpu.measured is None:
        return EFFICIENCY
    return Efficiency(gpu.measured.bf16 / gpu.bf16, gpu.measured.bandwidth / gpu.bandwidth)


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step, by what they are spent on."""

    compute: float
    link: float = 0.0
    host: float = 0.0

    @property
    def total(self) -> float:
        """The step."""
        return self.compute + self.link + self.host


def compute_seconds(
    operations: Operations, bf16: float, fp32: float, bandwidth: float, efficiency: Efficiency, optimizer: float = 1.0
) -> float:
    """One step's operations.

    Args:
        operations: how often (in the optimizer, dtype, FLOPs, bytes) occurs.
        bf16: peak FLOP/s of half-precision products.
        fp32: peak FLOP/s of float32 products.
        bandwidth: bytes/s of the memory.
        efficiency: reached shares of the peaks.
        optimizer: share of the optimizer's work that is done here.
    """
    seconds = 0.0
    for (updates, dtype, flops, moved), times in operations.items():
        rate = bf16 if dtype in HALF else fp32
        limit = max(flops / (efficiency.matrix * rate), moved / (efficiency.bandwidth * bandwidth))
        seconds += times * (optimizer if updates else 1) * limit
    return seconds


def step_time(
    operations: Operations, trained: int, parameters: int, gpu: Gpu, spread: Spread, efficiency: Efficiency = EFFICIENCY
) -> StepTime:
    """One step on one of the run's GPUs.

    Args:
        operations: of one GPU's share of the batch.
        trained: numbers that the optimizer updates.
        parameters: numbers in the model.
        gpu: which.
        spread: how many, one for each process, and how the state is spread.
        efficiency: reached shares of the peaks.
    """
    n = spread.processes
    optimizer = 0 if spread.offload else 1 / n if spread.zero else 1
    compute = compute_seconds(operations, gpu.bf16, gpu.fp32, gpu.bandwidth, efficiency, optimizer)
    travelling = 2 * (n - 1) / n * WIRE_BYTES * trained
    if spread.zero >= 3:
        travelling += 2 * (n - 1) / n * WIRE_BYTES * parameters
    host = 0.0
    if spread.offload:
        host = 2 * WIRE_BYTES * trained / n / gpu.host + ADAM_BYTES * trained / HOST_BANDWIDTH
    return StepTime(compute, travelling / gpu.link, host)

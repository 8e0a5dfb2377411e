"""The efficiency of this machine: what a roofline with its measured peaks predicts for a real step, against the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from smt_bench.measuring.accountant import Accountant
from smt_bench.methods.base import MethodConfig, OptimizerSettings
from smt_bench.methods.full import Full
from smt_bench.plan.gpu.roofline import compute_seconds
from smt_bench.training.optimizer import TorchUpdater
from smt_bench.training.step import Step

SIDE = 1024  # of the squared product that shows the peak
TIMES = 5


@dataclass(frozen=True)
class Calibration:
    """What was measured here.

    Attributes:
        device: what it was measured on.
        flops: peak rate of a float32 product (bf16 on a GPU), FLOP/s.
        bandwidth: rate of a copy, bytes/s read and written.
        efficiency: predicted time of a step at these peaks / measured time.
    """

    device: str
    flops: float
    bandwidth: float
    efficiency: float


def calibrate() -> Calibration:
    """Measures peaks and one small model's full fine-tuning step; seconds on a CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    side = SIDE * (8 if device.type == "cuda" else 1)
    a = torch.randn(side, side, device=device, dtype=dtype)
    big = torch.zeros(64 << 20, dtype=torch.float32, device=device)
    other = torch.zeros_like(big)
    flops = 2 * side**3 / _fastest(lambda: a @ a, device)
    bandwidth = 2 * 4 * big.numel() / _fastest(lambda: other.copy_(big), device)
    sizes: dict[str, Any] = {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
    }
    with device:
        model: Any = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=2048))
        ids = torch.randint(0, 2048, (4, 256))
    model.to(dtype).train()
    labels = ids.roll(-1, 1)
    method, settings = Full(MethodConfig(), None, 0, 10), OptimizerSettings(0.0)
    counter = Accountant(model, method, settings, ids, labels)
    counter.attach()
    counter.tuning()
    predicted = compute_seconds(counter.operations["tuning"], flops, flops, bandwidth, 1.0)
    updater = TorchUpdater(model, method, method.attach(model), settings, counter.max_grad_norm)
    step = Step("tuning", model, method, updater)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return Calibration(name, flops, bandwidth, predicted / _fastest(lambda: step.take(1, [counter.batch], 1.0), device))


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of some repetitions, after one to warm up."""
    best = float("inf")
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best

"""The efficiencies of this machine: what products and copies reach, and what a roofline under these rates says of a real step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from smt_bench.measuring.accountant import Accountant
from smt_bench.measuring.rates import fastest, rates
from smt_bench.methods.base import MethodConfig, OptimizerSettings
from smt_bench.methods.full import Full
from smt_bench.plan.gpu.hardware import Gpu, recognised
from smt_bench.plan.gpu.roofline import FULL_RATES, Efficiency, compute_seconds
from smt_bench.training.optimizer import TorchUpdater
from smt_bench.training.step import Step


@dataclass(frozen=True)
class Calibration:
    """What was measured here.

    Attributes:
        device: what it was measured on.
        flops: rate of a float32 product (bf16 on a GPU), FLOP/s.
        bandwidth: rate of a copy, bytes/s read and written.
        step: predicted time of a step at these rates / measured time.
        card: the kind of GPU, where it is a known one.
    """

    device: str
    flops: float
    bandwidth: float
    step: float
    card: Gpu | None = None

    def efficiency(self, gpu: Gpu) -> Efficiency:
        """Shares of the peaks of a card: as measured where it is this one, else those of a step alone."""
        if self.card is None or self.card.name != gpu.name:
            return Efficiency(self.step, self.step)
        return Efficiency(self.step * self.flops / gpu.bf16, self.step * self.bandwidth / gpu.bandwidth)


def calibrate() -> Calibration:
    """Measures rates and one small model's full fine-tuning step; seconds on a CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    found = rates(device)
    flops, bandwidth = found["bf16" if device.type == "cuda" else "fp32"], found["bandwidth"]
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
    predicted = compute_seconds(counter.operations["tuning"], flops, flops, bandwidth, FULL_RATES)
    updater = TorchUpdater(model, method, method.attach(model), settings, counter.max_grad_norm)
    step = Step("tuning", model, method, updater)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    card = recognised(name, torch.cuda.get_device_properties(0).total_memory) if device.type == "cuda" else None
    taken = fastest(lambda: step.take(1, [counter.batch], 1.0))
    return Calibration(name, flops, bandwidth, predicted / taken, card)

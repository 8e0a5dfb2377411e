"""Mixed precision: one rule for every model, method and phase, told by the model's own weights.

Where a model's weights are bf16, every forward pass runs under bf16 autocast: in training, in judging, in measurements and in
dry runs. Products are bf16, whatever is added in float32 beside the weights (adapters, as `peft` makes them); sums that autocast
keeps in float32 are. What trains is float32, or has a float32 master; `Method.half` says which. In float32 nothing is changed.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch

from smt_bench.machine.fits import CPU_LIMIT

PRECISIONS = ("fp32", "bf16")
SHORT = 384  # tokens of the longest sequence; most are about half of that


def default(parameters: int) -> str:
    """The precision of a model of so many parameters where neither user nor registry names one; the same on every machine."""
    return "bf16" if parameters > CPU_LIMIT else "fp32"


def half(model: Any) -> torch.dtype | None:
    """The type under whose autocast the model's forward passes run; None: as they are."""
    found = any(p.dtype == torch.bfloat16 for p in model.parameters())
    return torch.bfloat16 if found else None


def mixed(model: Any) -> AbstractContextManager[Any]:
    """Around a forward pass of the model, its loss included."""
    dtype = half(model)
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(next(model.parameters()).device.type, dtype)


def attend(model: Any, length: int) -> None:
    """Attention by plain products where torch's fused kernel is slower: in bf16 on a CPU, under cut-offs up to `SHORT`.

    `tests/attention_time.py` has the times. What was used stands in the record.

    Args:
        model: on its device.
        length: tokens of the longest sequence.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    if on_cpu and half(model) is not None and length <= SHORT and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")

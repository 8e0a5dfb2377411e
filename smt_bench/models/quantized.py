"""Models whose frozen base has 4 bits (`methods.nf4`): made of whole ones, and made whole again to be merged or exported.

Quantized are the weights of all linear layers inside the repeated blocks, as in QLoRA; embeddings, the output layer (tied to
them or not), norms, biases and experts kept in one tensor stay in the run's precision. Layers that `unpack` took apart are
quantized part by part: blocks of 64 numbers, and means of the blocks' magnitudes, are then of Q, K and V alone.

A merged model is whole: the dequantized base plus what was trained, in the run's precision. It is not the quantized model's
original with the same change, and quantizing it again would round what was trained: merging is for `export`, runs are judged as
they were trained.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from smt_bench.methods.nf4 import Nf4, quantized
from smt_bench.models.inventory import inventory

BASES = ("nf4",)
WORDS = "a frozen base of 4 bits: NF4, blocks of 64, double quantization (bitsandbytes)"


def quantize(model: Any, device: torch.device | None = None) -> Any:
    """Quantizes a model in place, matrix by matrix; returns it, frozen.

    Args:
        model: unpacked, with or without values.
        device: where it goes, so that no more than one whole matrix has to fit there; None: all stays where it is.

    Raises:
        ValueError: bitsandbytes is not installed.
    """
    last = None
    for path in inventory(model).matrices:
        module = model.get_submodule(path)
        weight_OI = module.weight.detach()
        module.weight = last = quantized(weight_OI if device is None else weight_OI.to(device), last)
        del weight_OI
    if device is not None:
        for parameter in model.parameters():
            if not isinstance(parameter, Nf4):
                parameter.data = parameter.data.to(device)
        for module in model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(device)
    return model.requires_grad_(False)


def is_quantized(model: nn.Module) -> bool:
    """Whether some weight has 4 bits."""
    return any(isinstance(p, Nf4) for p in model.parameters())


def make_whole(model: nn.Module, device: torch.device | None = None) -> None:
    """Puts whole matrices in place of quantized ones, with what layers write into them.

    Args:
        model: in place.
        device: where all of it goes: a whole model may not fit beside what a GPU holds.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if isinstance(parameter, Nf4):
                whole_OI = parameter.whole()
                module._parameters[name] = nn.Parameter(whole_OI.to(device or whole_OI.device), requires_grad=False)
    if device is not None:
        model.to(device)

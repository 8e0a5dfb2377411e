"""Matrix products whose sums come out in float32, whatever goes in.

A weight gradient is a sum over thousands of tokens. Products of bf16 are summed in float32 anyway; rounding the sum to bf16 on
the way to a float32 parameter would throw 16 of its 24 bits away.
"""

from __future__ import annotations

import torch

HALVES = (torch.bfloat16, torch.float16)
ROUNDING = {"cpu"}  # devices whose products come out in the type that goes in; `plan` takes fake tensors for a GPU's


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type of a sum: float32 or more precise."""
    return torch.promote_types(dtype, torch.float32)


def product(a_MT: torch.Tensor, b_TN: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """a b, (M, N), summed and given in float32 or more precise.

    Args:
        a_MT: a matrix.
        b_TN: another one.
        out: takes the result; float32 or more precise.
    """
    if a_MT.dtype != b_TN.dtype:
        common = torch.promote_types(a_MT.dtype, b_TN.dtype)
        a_MT, b_TN = a_MT.to(common), b_TN.to(common)
    if a_MT.dtype in HALVES:
        if a_MT.device.type not in ROUNDING:
            return torch.mm(a_MT, b_TN, out_dtype=torch.float32, out=out)
        a_MT, b_TN = a_MT.float(), b_TN.float()
    return torch.mm(a_MT, b_TN, out=out)


def as_autocast(x: torch.Tensor) -> torch.Tensor:
    """x in the type that autocast multiplies it in, itself where there is none."""
    if x.is_meta or not torch.is_autocast_enabled(x.device.type) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))

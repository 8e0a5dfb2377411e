"""`python tests/attention_time.py`: torch's fused attention against plain products on this CPU, forward and backward.

Milliseconds of the processor, the least of several turns; 8 sequences, 9 heads of 64 as in SmolLM2-135M. What
`models.precision.attend` stands on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

TURNS = 6
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """As transformers' `eager`: the softmax in float32."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    mask = torch.full(scores.shape[-2:], float("-inf"), dtype=scores.dtype).triu(1)
    return torch.softmax(scores + mask, -1, dtype=torch.float32).to(q.dtype) @ v


def milliseconds(attention: Attention, dtype: torch.dtype, length: int) -> float:
    q, k, v = (torch.randn(8, 9, length, 64, dtype=dtype, requires_grad=True) for _ in range(3))
    taken = []
    for _ in range(TURNS):
        start = time.process_time()
        attention(q, k, v).sum().backward()
        taken.append(time.process_time() - start)
    return 1000 * min(taken)


def main() -> None:
    torch.set_num_threads(1)
    print("tokens  type      fused ms  plain ms  fused / plain")
    for length in (104, 186, 256, 512, 1024):
        for dtype in (torch.float32, torch.bfloat16):
            one, other = milliseconds(fused, dtype, length), milliseconds(plain, dtype, length)
            print(f"{length:6}  {str(dtype)[6:]:8}  {one:8.1f}  {other:8.1f}  {one / other:13.2f}", flush=True)


if __name__ == "__main__":
    main()

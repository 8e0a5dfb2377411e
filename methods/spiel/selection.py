"""Where SpIEL's deltas start and how many move when: pure functions (SpIEL, section 3.2, equation 8)."""

from __future__ import annotations

import math

import torch


def random_indices(numel: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """A uniform random subset of 0..numel-1, ascending; memory O(count) where the subset is sparse."""
    if count * 4 > numel:
        return torch.randperm(numel, generator=generator)[:count].sort().values
    # Whatever was drawn is a uniform subset given its size, and stays one when a random part is thrown away.
    chosen = torch.empty(0, dtype=torch.int64)
    while len(chosen) < count:
        more = torch.randint(numel, (count - len(chosen) + count // 4 + 8,), generator=generator)
        chosen = torch.cat([chosen, more]).unique()
    return chosen[torch.randperm(len(chosen), generator=generator)[:count]].sort().values


def is_update(step: int, every: int, phase: int, steps: int, offset: bool = False) -> bool:
    """Whether indices move after step `step` (1-based): at gamma, then at multiples of S; `offset`: gamma steps after these."""
    if offset:
        return step < steps and step % every == phase
    return step < steps and (step == phase or (step % every == 0 and step >= 2 * phase))


def estimated(step: int, phase: int, offset: bool) -> int:
    """Steps whose gradients decide the update after `step`: gamma; with `offset` one more, but for the first."""
    return phase + (offset and step != phase)


def replaced(step: int, deltas: int, rate: float, phase: int, steps: int, cosine: bool = False) -> int:
    """k(i, t), equation 8; `cosine`: equation 11, which has no full replacement at the first update."""
    if cosine:
        return math.floor(rate / 2 * (1 + math.cos(math.pi * step / steps)) * deltas + 1e-9)
    if step == phase:
        return deltas
    return math.floor(rate * (steps - step) / steps * deltas + 1e-9)  # 0.1 * 30 must not become 2

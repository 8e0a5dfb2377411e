"""Trainable numbers of many layers in one tensor per device, for the optimizer; each layer's parameter is a slice of it.

One large tensor is updated in a few launches, where hundreds of small ones take hundreds. The layers' gradients gather in slices
of one gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

Place = tuple[torch.device, torch.dtype]


def place_of(weight: torch.Tensor) -> Place:
    """Where what trains beside a weight lives: on its device, in float32 or more precise."""
    return weight.device, torch.promote_types(weight.dtype, torch.float32)


class Flat:
    """One parameter per device and dtype, handed out in slices.

    Float32 also beside half-precision weights, whose rounding step would swallow small updates.

    Args:
        counts: rows per device and dtype.
        shape: of a row; (): single numbers.
        lasting: the flat gradient is there all the time, and what autograd makes is added to it; else it is made of the layers'
            gradients after the backward passes, as far as there are any.

    Attributes:
        slices: the layers' parameters, in the order in which they were handed out.
    """

    def __init__(self, counts: Mapping[Place, int], shape: tuple[int, ...] = (), lasting: bool = True) -> None:
        self._whole = {
            (device, dtype): nn.Parameter(torch.zeros(count, *shape, device=device, dtype=dtype))
            for (device, dtype), count in counts.items()
        }
        self._grads = {place: torch.zeros_like(whole) for place, whole in self._whole.items() if lasting}
        self._used = dict.fromkeys(self._whole, 0)
        self._where: dict[int, tuple[Place, int]] = {}
        self.slices: list[nn.Parameter] = []

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer gets."""
        return list(self._whole.values())

    def hand_out(self, place: Place, count: int, view: tuple[int, ...] | None = None) -> nn.Parameter:
        """The next `count` rows, (count, *shape) or as `view` has them, for one layer."""
        start = self._used[place]
        self._used[place] = stop = start + count
        seen = (count, *self._whole[place].shape[1:]) if view is None else view
        part = nn.Parameter(self._whole[place].data[start:stop].view(seen))
        self.slices.append(part)
        self._where[id(part)] = place, start
        return part

    def whole_of(self, part: nn.Parameter) -> tuple[nn.Parameter, int]:
        """The parameter that a layer's is a slice of, and the row where it begins."""
        place, start = self._where[id(part)]
        return self._whole[place], start

    def clear_gradients(self) -> None:
        """Gradients start from zero: in the flat ones where these last."""
        for grad in self._grads.values():
            grad.zero_()
        for part in self.slices:
            part.grad = self._slice(self._grads, part) if self._grads else None

    def publish_gradients(self) -> None:
        """Shows the optimizer what has gathered: zeros for a layer that no gradient has reached, which itself shows none."""
        grads = self._grads or {place: torch.zeros_like(whole) for place, whole in self._whole.items()}
        if not self._grads:
            reached = [(part, part.grad) for part in self.slices if part.grad is not None]
            gathered = [self._slice(grads, part) for part, _ in reached]
            if reached:
                torch._foreach_copy_(gathered, [grad for _, grad in reached])
            for (part, _), grad in zip(reached, gathered):
                part.grad = grad
        for place, whole in self._whole.items():
            whole.grad = grads[place]

    def _slice(self, grads: Mapping[Place, torch.Tensor], part: nn.Parameter) -> torch.Tensor:
        place, start = self._where[id(part)]
        rows = part.numel() // max(1, self._whole[place][:1].numel())
        return grads[place][start : start + rows].view_as(part)

"""How a step is looked at from outside: region by region, without repeating its order."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Region = Literal["hooks", "forward", "backward", "clip", "optimizer"]
REGIONS: tuple[Region, ...] = ("hooks", "forward", "backward", "clip", "optimizer")


class Instrument:
    """Stands around every region of a step (`training.step`); this one does nothing.

    Regions do not overlap. "hooks" are the method's, before the forward pass, after the backward pass and after the update;
    "optimizer" is the update with its master copies, or the clearing of gradients where nothing trains.
    """

    def around(self, region: Region) -> AbstractContextManager[None]:
        """Entered before a region, left after it."""
        return nullcontext()

    def read(self, value: torch.Tensor) -> float:
        """The number in a tensor of one element; fake tensors have none to give."""
        return value.item()


UNWATCHED = Instrument()

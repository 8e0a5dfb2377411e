"""How a step is looked at from outside: region by region, without repeating its order."""

from __future__ import annotations

from collections.abc import Sequence
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

    def read(self, values: Sequence[torch.Tensor]) -> list[float]:
        """The numbers in tensors of one element, for which a step waits for a GPU; fake tensors have none to give."""
        if len({(value.device, value.dtype) for value in values}) > 1:  # layers spread over devices
            return [value.item() for value in values]
        if len(values) == 1:
            return [values[0].item()]
        found: list[float] = torch.stack(list(values)).tolist()
        return found


UNWATCHED = Instrument()

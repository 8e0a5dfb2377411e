"""Sums of whole matrices over a warm-up: on the GPU where all of them fit beside everything else, else in main memory.

Which, is known once a whole step has been taken there. Where they are changes no number.
"""

from __future__ import annotations

import torch


def free_bytes(device: torch.device) -> int:
    """What a GPU had left at the fullest moment so far, or 0 where there is none."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.max_memory_allocated(device)


class Sums:
    """Adds matrices up, by name.

    Args:
        sums: name -> sum so far; filled in place.
        needed: bytes of all sums together.
    """

    def __init__(self, sums: dict[str, torch.Tensor], needed: int) -> None:
        self.sums, self.needed = sums, needed
        self._here: dict[torch.device, bool] = {}
        self._staging: torch.Tensor | None = None

    def add(self, name: str, value: torch.Tensor) -> None:
        """Adds one matrix, which stays the caller's."""
        if name not in self.sums:
            self.sums[name] = value.to("cpu", copy=True)
            return
        if self.sums[name].device != value.device and self._fits_on(value.device):
            self.sums[name] = self.sums[name].to(value.device)
        there = self.sums[name].device
        self.sums[name] += self._brought(value) if there.type == "cpu" else value.to(there)

    def close(self) -> None:
        """No more will come: gives the pinned pages back."""
        self._staging = None

    def _fits_on(self, device: torch.device) -> bool:
        """Whether all sums have room on a device, beside the most that a whole step has needed there."""
        if device not in self._here:
            self._here[device] = free_bytes(device) >= self.needed
        return self._here[device]

    def _brought(self, value: torch.Tensor) -> torch.Tensor:
        """A matrix in main memory, through pinned pages where it comes from a GPU: several times the rate of others."""
        if value.device.type != "cuda":
            return value
        if self._staging is None or self._staging.numel() < value.numel():
            self._staging = torch.empty(value.numel(), dtype=value.dtype, pin_memory=True)
        place = self._staging[: value.numel()].view(value.shape)
        place.copy_(value)
        return place

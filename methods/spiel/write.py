"""All deltas of a model into its weights (SpIEL, equation 4): one launch per device on GPUs, else layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from smt_bench.methods import guarded
from smt_bench.methods.deltas import SpielLinear, index_dtype
from smt_bench.methods.flat import Flat
from smt_bench.methods.nf4 import Nf4

WRITE = "SpIEL write-back"  # the kernel's name in records


class WriteBack:
    """weight[indices] = base + deltas in every layer, by `guarded`'s rule.

    Weights of 4 bits are left alone: whoever makes them whole writes the deltas.

    Takes indices and pretrained values of all layers of a device together, as `flat` has their deltas.

    Args:
        layers: in the order in which their deltas were handed out.
        flat: holds the deltas.
    """

    def __init__(self, layers: Sequence[SpielLinear], flat: Flat) -> None:
        self.flat = flat
        self.groups: list[list[SpielLinear]] = []
        kinds = list(dict.fromkeys(map(_kind, layers)))
        for kind in kinds:
            own, (device, dtype, _) = [layer for layer in layers if _kind(layer) == kind], kind
            largest = index_dtype(max(layer.weight.numel() for layer in own))
            sizes = [len(layer.deltas) for layer in own]
            indices_D = torch.empty(sum(sizes), dtype=largest, device=device)
            base_D = torch.empty(sum(sizes), dtype=dtype, device=device)
            for layer, indices, base in zip(own, indices_D.split(sizes), base_D.split(sizes)):
                layer.move_to(indices, base)
            self.groups.append(own)
        self._tables: dict[int, tuple[tuple[int, ...], torch.Tensor]] = {}

    @torch.no_grad()
    def __call__(self) -> None:
        """Writes."""
        for number, own in enumerate(self.groups):
            if isinstance(own[0].weight, Nf4):
                continue
            if guarded.used(WRITE, own[0].weight.device):
                guarded.guarded(
                    WRITE,
                    lambda number=number: self._launch(number),  # type: ignore[misc]
                    lambda own=own: _one_by_one(own),  # type: ignore[misc]
                )
            else:
                _one_by_one(own)

    def _launch(self, number: int) -> None:
        from smt_bench.methods.spiel.triton_kernel import write_back

        own = self.groups[number]
        largest = max(len(layer.deltas) for layer in own)
        write_back(self.table(number), self.flat.whole_of(own[0].deltas)[0].data, own[0].indices, own[0].base, largest)

    def table(self, number: int) -> torch.Tensor:
        """What the kernel is told of every layer, (M, 4) int64 on their device; made anew only where a weight has moved."""
        own = self.groups[number]
        addresses = tuple(layer.weight.data_ptr() for layer in own)
        if number not in self._tables or self._tables[number][0] != addresses:
            rows, start = [], 0
            for address, layer in zip(addresses, own):
                rows.append((address, len(layer.deltas), self.flat.whole_of(layer.deltas)[1], start))
                start += len(layer.deltas)
            self._tables[number] = addresses, torch.tensor(rows, device=own[0].weight.device)
        return self._tables[number][1]


def _kind(layer: SpielLinear) -> tuple[torch.device, torch.dtype, bool]:
    return layer.weight.device, layer.weight.dtype, isinstance(layer.weight, Nf4)


def _one_by_one(layers: Sequence[SpielLinear]) -> None:
    for layer in layers:
        layer.write_back()

"""Where the blocks of a model live, and which layers share an input.

All blocks of a device lie in one tensor (`methods.flat`); once per optimizer step they go back into the weights together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from smt_bench.methods import guarded
from smt_bench.methods.flat import Flat, Place, place_of
from smt_bench.methods.nf4 import Nf4
from smt_bench.methods.smt.layer import Shared, SparseLinear, columns_of
from smt_bench.methods.smt.selection import Selection

# Layers of one module that read the same input. Others are taken to have an input of their own; were one of these not to
# read what its siblings read, it would keep columns that only they need, and all numbers would still be right.
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def same_input(names: Sequence[str]) -> list[list[str]]:
    """Groups layer names by the input they read, in order."""
    groups: dict[tuple[str, Any], list[str]] = {}
    for name in names:
        parent, _, last = name.rpartition(".")
        family = next((siblings for siblings in SIBLINGS if last in siblings), last)
        groups.setdefault((parent, family), []).append(name)
    return list(groups.values())


def sparse_layers(
    linears: Mapping[str, nn.Linear], selection: Selection, shape: tuple[int, int]
) -> tuple[dict[str, SparseLinear], Flat]:
    """Sparse layers in place of the selected ones, and what holds their blocks.

    Args:
        linears: layer name -> layer, for all that `selection` names.
        selection: layer name -> (row, column) of its blocks.
        shape: height and width of a block.
    """
    places = {n: place_of(linears[n].weight) for n in selection}
    counts: dict[Place, int] = {}
    for name, index in selection.items():
        counts[places[name]] = counts.get(places[name], 0) + len(index)
    flat = Flat(counts, shape)
    layers: dict[str, SparseLinear] = {}
    for group in same_input(list(selection)):
        columns = sorted({column for name in group for _, column in selection[name]})
        picked = torch.tensor(columns, device=linears[group[0]].weight.device)
        shared = Shared(lambda x, picked=picked: columns_of(x, picked, shape[1]), len(group))  # type: ignore[misc]
        for name in group:
            index = selection[name]
            layers[name] = SparseLinear(linears[name], index, flat.hand_out(places[name], len(index)), columns, shared)
    return layers, flat


WRITE = "SMT write-back"  # the kernel's name in records


class WriteBack:
    """All blocks of a model into its weights: one launch per device on GPUs, by `guarded`'s rule, else layer by layer.

    Weights of 4 bits are left alone: whoever makes them whole writes the blocks.

    Args:
        layers: in the order in which their blocks were handed out.
        flat: holds the blocks.
    """

    def __init__(self, layers: Mapping[str, SparseLinear], flat: Flat) -> None:
        self.layers, self.flat = [layer for layer in layers.values() if not isinstance(layer.weight, Nf4)], flat
        self._tables: dict[tuple[torch.device, torch.dtype], tuple[tuple[int, ...], torch.Tensor]] = {}

    @torch.no_grad()
    def __call__(self) -> None:
        """Writes."""
        kinds = list(dict.fromkeys((layer.weight.device, layer.weight.dtype) for layer in self.layers))
        for device, dtype in kinds:
            own = [layer for layer in self.layers if (layer.weight.device, layer.weight.dtype) == (device, dtype)]
            if guarded.used(WRITE, device):
                guarded.guarded(WRITE, lambda own=own: self._launch(own), lambda own=own: _one_by_one(own))  # type: ignore[misc]
            else:
                _one_by_one(own)

    def _launch(self, own: Sequence[SparseLinear]) -> None:
        from smt_bench.methods.smt.triton_kernel import write_back

        write_back(self.flat.whole_of(own[0].blocks)[0].data, self.table(own), own[0].weight.dtype)

    def table(self, own: Sequence[SparseLinear]) -> torch.Tensor:
        """What the kernel is told of every block, (N, 3) on their device; made anew only where a weight has moved."""
        kind = own[0].weight.device, own[0].weight.dtype
        addresses = tuple(layer.weight.data_ptr() for layer in own)
        if kind not in self._tables or self._tables[kind][0] != addresses:
            rows = [
                (
                    address + layer.weight.element_size() * (row * layer.height * stride + column * layer.width),
                    stride,
                    first + n,
                )
                for address, layer in zip(addresses, own)
                for stride, first in [(layer.weight.stride(0), self.flat.whole_of(layer.blocks)[1])]
                for n, (row, column) in enumerate(layer.index)
            ]
            self._tables[kind] = addresses, torch.tensor(rows, device=kind[0])
        return self._tables[kind][1]


def _one_by_one(layers: Sequence[SparseLinear]) -> None:
    for layer in layers:
        layer.write_back()

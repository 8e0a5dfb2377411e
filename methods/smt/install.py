"""Where the blocks of a model live, and which layers share an input.

An optimizer does best with few large tensors, so all blocks of a device lie in one; the layers' parameters are slices of it
and their gradients slices of one gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

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


Place = tuple[torch.device, torch.dtype]


class FlatBlocks:
    """All blocks of a model: one parameter per device, for the optimizer, handed out to the layers in slices.

    Blocks are float32 copies, also of half-precision weights, whose rounding step would swallow small updates.

    Args:
        counts: blocks per device and dtype.
        shape: height and width of a block.
    """

    def __init__(self, counts: Mapping[Place, int], shape: tuple[int, int]) -> None:
        self._whole = {
            (device, dtype): nn.Parameter(torch.empty(count, *shape, device=device, dtype=dtype))
            for (device, dtype), count in counts.items()
        }
        self._grads = {place: torch.zeros_like(whole) for place, whole in self._whole.items()}
        self._slices: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._used = dict.fromkeys(self._whole, 0)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer gets."""
        return list(self._whole.values())

    def hand_out(self, place: Place, count: int) -> nn.Parameter:
        """The next `count` blocks, (count, height, width), for one layer."""
        start = self._used[place]
        self._used[place] = stop = start + count
        part = nn.Parameter(self._whole[place].data[start:stop])
        self._slices.append((part, self._grads[place][start:stop]))
        return part

    def clear_gradients(self) -> None:
        """Lets the layers' gradients gather, from zero, in the flat ones."""
        for grad in self._grads.values():
            grad.zero_()
        for part, grad in self._slices:
            part.grad = grad

    def publish_gradients(self) -> None:
        """Shows the optimizer what has gathered."""
        for place, whole in self._whole.items():
            whole.grad = self._grads[place]


def sparse_layers(
    linears: Mapping[str, nn.Linear], selection: Selection, shape: tuple[int, int]
) -> tuple[dict[str, SparseLinear], FlatBlocks]:
    """Sparse layers in place of the selected ones, and what holds their blocks.

    Args:
        linears: layer name -> layer, for all that `selection` names.
        selection: layer name -> (row, column) of its blocks.
        shape: height and width of a block.
    """
    places = {n: _place(linears[n].weight) for n in selection}
    counts: dict[Place, int] = {}
    for name, index in selection.items():
        counts[places[name]] = counts.get(places[name], 0) + len(index)
    flat = FlatBlocks(counts, shape)
    layers: dict[str, SparseLinear] = {}
    for group in same_input(list(selection)):
        columns = sorted({column for name in group for _, column in selection[name]})
        shared = Shared(lambda x, columns=columns: columns_of(x, columns, shape[1]), len(group))  # type: ignore[misc]
        for name in group:
            index = selection[name]
            layers[name] = SparseLinear(linears[name], index, flat.hand_out(places[name], len(index)), columns, shared)
    return layers, flat


def _place(weight: torch.Tensor) -> Place:
    return weight.device, torch.promote_types(weight.dtype, torch.float32)

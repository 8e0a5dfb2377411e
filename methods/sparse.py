"""What methods with sparse deltas share: how many each matrix gets, and the layers that hold them.

The layer itself is `methods.deltas`; all deltas of a device are one parameter (`methods.flat`). Shapes: O outputs and I inputs
of a matrix, D deltas of one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from smt_bench.methods import guarded
from smt_bench.methods.base import Average, ParamGroup, Shapes
from smt_bench.methods.deltas import SpielLinear
from smt_bench.methods.flat import Flat, Place, place_of
from smt_bench.methods.modules import apportion, freeze, numel, replace_module, targeted, total_parameters
from smt_bench.methods.sampled import FUSED
from smt_bench.methods.spiel.selection import random_indices
from smt_bench.methods.spiel.write import WRITE, WriteBack


def wanted_deltas(fraction: float, shapes: Shapes, targets: Iterable[str], spare: bool = False) -> tuple[int, int]:
    """How many deltas a trainable fraction means, and how many weights the targeted matrices hold.

    Args:
        fraction: trainable numbers / all parameters.
        shapes: parameter name -> shape.
        targets: of the method.
        spare: whether as many weights have to be left, for deltas that move.

    Raises:
        ValueError: less than one, or more than there is room for.
    """
    total, held = total_parameters(shapes), sum(numel(shape) for shape in targeted(shapes, targets).values())
    wanted, most = round(fraction * total), held // 2 if spare else held
    if wanted < 1:
        raise ValueError(f"fraction={fraction}: less than 1 of {total} parameters: choose more")
    if wanted > most:
        over = f"over half of the {held} weights" if spare else f"more than the {held} weights"
        why = ", with no room to grow" if spare else ""
        raise ValueError(
            f"fraction={fraction}: {wanted} deltas are {over} in the targeted "
            f"matrices{why}: choose at most {math.floor(most / total * 1e6) / 1e6:.6f}"
        )
    return wanted, held


def even_counts(fraction: float, shapes: Shapes, targets: tuple[str, ...], spare: bool = False) -> dict[str, int]:
    """Deltas per matrix, at the same density in all of them, in model order.

    Raises:
        ValueError: see `wanted_deltas`.
    """
    wanted, _ = wanted_deltas(fraction, shapes, targets, spare)
    return apportion(wanted, {name: numel(shape) for name, shape in targeted(shapes, targets).items()})


def linear_layers(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Linear]:
    """The layers of these names.

    Raises:
        ValueError: one is not linear, an embedding say.
    """
    found: dict[str, nn.Linear] = {}
    for name in names:
        module = model.get_submodule(name)
        if not isinstance(module, nn.Linear):
            raise ValueError(f"targets: {name} is a {type(module).__name__}, not a linear layer: leave it out")
        found[name] = module
    return found


def scattered(counts: Mapping[str, int], linears: Mapping[str, nn.Linear], seed: int) -> Callable[[str], torch.Tensor]:
    """Random positions for each layer, (D,) ascending, drawn when they are asked for.

    On the CPU, so that every device starts from the same; a stream per matrix keeps one matrix's draw independent of the others'
    sizes.
    """
    places = {name: position for position, name in enumerate(counts)}

    def draw(name: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + places[name])
        return random_indices(linears[name].weight.numel(), counts[name], generator)

    return draw


class Deltas:
    """The layers of a model that hold deltas, from the frozen model to the merged one.

    Args:
        model: frozen here; its layers are replaced.
        linears: layer name -> layer, in model order.
        counts: layer name -> D; layers without stay as they are.
        indices_of: gives a layer's (D,) distinct positions in the flattened weight, when its turn comes.
        average: over the run's processes.

    Attributes:
        layers: those with deltas.
        flat: all deltas together.
        write: puts them into the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        linears: Mapping[str, nn.Linear],
        counts: Mapping[str, int],
        indices_of: Callable[[str], torch.Tensor],
        average: Average,
    ) -> None:
        freeze(model)
        chosen = {name: linear for name, linear in linears.items() if counts.get(name)}
        sizes: dict[Place, int] = {}
        for name, linear in chosen.items():
            place = place_of(linear.weight)
            sizes[place] = sizes.get(place, 0) + counts[name]
        self.flat, self._originals = Flat(sizes, lasting=False), chosen
        self.layers: dict[str, SpielLinear] = {}
        for name, linear in chosen.items():
            indices_D = indices_of(name)
            deltas_D = self.flat.hand_out(place_of(linear.weight), counts[name])
            self.layers[name] = SpielLinear(linear, indices_D, average, deltas_D)
            replace_module(model, name, self.layers[name])
        self.write = WriteBack(list(self.layers.values()), self.flat)

    def group(self, weight_decay: float | None = None) -> ParamGroup:
        """What the optimizer gets."""
        return ParamGroup(self.flat.parameters, weight_decay=weight_decay, pieces=self.flat.slices)

    def merge(self, model: nn.Module) -> None:
        """Puts the original layers back, with the deltas in their weights."""
        for name, layer in self.layers.items():
            layer.write_back()
            linear = self._originals[name]
            linear.weight, linear.bias = layer.weight, layer.bias
            replace_module(model, name, linear)


def kernels_left() -> dict[str, Any]:
    """For `Method.ran`: the kernels of deltas that were left, with the reasons."""
    left = {name: guarded.left[name] for name in (WRITE, FUSED) if name in guarded.left}
    return {"kernels_left": left} if left else {}

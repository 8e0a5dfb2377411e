"""What methods share when they look at a model: parameter shapes, targeted layers, replacing modules, freezing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

import torch
from torch import nn

from smt_bench.methods.base import Shapes
from smt_bench.methods.roles import inside, matches, role


def total_parameters(shapes: Shapes) -> int:
    """All numbers in the parameters, the papers' denominator."""
    return sum(numel(shape) for shape in shapes.values())


def numel(shape: Iterable[int]) -> int:
    """Numbers in a tensor of this shape."""
    n = 1
    for side in shape:
        n *= side
    return n


def targeted(shapes: Shapes, targets: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The weight matrices of the layers that `targets` mean, in model order.

    Args:
        shapes: parameter name -> shape.
        targets: roles, own names or patterns, see `methods.roles`.

    Returns:
        Layer name (without ".weight") -> (O, I).

    Raises:
        ValueError: a target that no matrix of the model has.
    """
    wanted = tuple(targets)
    matrices = {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2
    }
    found = {path: shape for path, shape in matrices.items() if matches(path, wanted)}
    missing = [t for t in wanted if not any(matches(path, [t]) for path in found)]
    if missing or not wanted:
        have = ", ".join(sorted({role(path) for path in matrices if inside(path)}))
        what = f"the model has no {', '.join(missing)}" if missing else "none is named"
        raise ValueError(f"targets {list(wanted)}: {what}: choose from {have}")
    return found


def linears(model: nn.Module, targets: Iterable[str]) -> Iterator[tuple[str, nn.Linear]]:
    """The targeted `nn.Linear` modules with their names, in model order."""
    wanted = tuple(targets)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and matches(name, wanted):
            yield name, module


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in place of the submodule called `name`, keeping its train/eval mode."""
    parent, _, last = name.rpartition(".")
    owner = model.get_submodule(parent)
    module.train(getattr(owner, last).training)
    setattr(owner, last, module)


def has_values(tensor: torch.Tensor) -> bool:
    """Whether numbers can be read from a tensor: a dry run's has none."""
    return type(tensor) in (torch.Tensor, nn.Parameter) and not tensor.is_meta


def freeze(model: nn.Module) -> None:
    """Turns every parameter of the model off."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def apportion(count: int, parts: Mapping[str, float]) -> dict[str, int]:
    """Shares a whole number out in proportion, by largest remainder; earlier parts win ties, and nothing is lost.

    Args:
        count: blocks, deltas or the like in all.
        parts: sizes or shares by name; exact, a float being the decimal that it is written as.
    """
    whole = {name: Fraction(str(part)) for name, part in parts.items()}
    total = sum(whole.values())
    exact = {name: count * part / total for name, part in whole.items()}
    counts = {name: math.floor(share) for name, share in exact.items()}
    order = sorted(exact, key=lambda name: counts[name] - exact[name])  # stable
    for name in order[: count - sum(counts.values()) if exact else 0]:
        counts[name] += 1
    return counts

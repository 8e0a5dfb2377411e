"""What methods share when they look at a model: parameter shapes, targeted layers, replacing modules, freezing."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from fractions import Fraction

from torch import nn

from smt_bench.methods.base import Shapes


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
    """The weight matrices of the layers named in `targets`, in model order.

    Args:
        shapes: parameter name -> shape.
        targets: last component of the layer's name, e.g. ("q_proj", "v_proj").

    Returns:
        Layer name (without ".weight") -> (O, I).

    Raises:
        ValueError: a target that no matrix of the model has.
    """
    found: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    wanted = tuple(targets)
    for name, shape in shapes.items():
        layer, _, kind = name.rpartition(".")
        last = layer.rpartition(".")[2]
        if kind == "weight" and len(shape) == 2 and last in wanted:
            found[layer] = (shape[0], shape[1])
            seen.add(last)
    missing = [t for t in wanted if t not in seen]
    if missing or not wanted:
        have = ", ".join(choices(shapes))
        what = f"the model has no {', '.join(missing)}" if missing else "none is named"
        raise ValueError(f"targets {list(wanted)}: {what}: choose from {have}")
    return found


def choices(shapes: Shapes, without: Container[str] = ()) -> list[str]:
    """Layers with a weight matrix inside the repeated blocks, so neither embeddings nor the output layer, but for `without`."""
    inside = [n.rpartition(".")[0] for n, s in shapes.items() if len(s) == 2 and re.search(r"\.\d+\.", n)]
    return sorted({last for layer in inside if (last := layer.rpartition(".")[2]) not in without})


def unfit(model: nn.Module) -> dict[str, str]:
    """Layers with a weight matrix that no method can have as a target, by the last component of their names: why.

    Methods replace linear layers (O, I) and fold their updates into a weight of the layer's own: embeddings look rows up, Conv1D
    (GPT-2) holds (I, O), and what is folded into a tied weight changes the other layer as well.
    """
    users: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        if isinstance(weight := getattr(module, "weight", None), nn.Parameter) and weight.ndim == 2:
            users.setdefault(id(weight), []).append(name)
    found: dict[str, str] = {}
    for names in users.values():
        for name in names:
            module, others = model.get_submodule(name), [other for other in names if other != name]
            if others:
                found[name.rpartition(".")[2]] = f"shares its weight with {', '.join(others)}"
            elif not isinstance(module, nn.Linear):
                found[name.rpartition(".")[2]] = f"is a layer of type {type(module).__name__}, not a linear one"
    return found


def linears(model: nn.Module, targets: Iterable[str]) -> Iterator[tuple[str, nn.Linear]]:
    """The targeted `nn.Linear` modules with their names, in model order."""
    wanted = set(targets)
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in wanted and isinstance(module, nn.Linear):
            yield name, module


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in place of the submodule called `name`, keeping its train/eval mode."""
    parent, _, last = name.rpartition(".")
    owner = model.get_submodule(parent)
    module.train(getattr(owner, last).training)
    setattr(owner, last, module)


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

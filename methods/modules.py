"""What methods share when they look at a model: parameter shapes, targeted layers, replacing modules, freezing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
        have = sorted({n.rpartition(".")[0].rpartition(".")[2] for n, s in shapes.items() if len(s) == 2})
        raise ValueError(
            f"targets {list(wanted)}: the model has no {', '.join(missing)}: choose from {', '.join(have)}"
        )
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

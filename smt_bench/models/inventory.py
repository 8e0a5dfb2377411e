"""The inventory of a model's layers: what there is to train, what each does, and what cannot be trained and why.

Made of the model without storage. Planning, capacity, warm-up, measurements and tables read it; nothing else looks at names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from torch import nn

from smt_bench.methods.base import Shapes
from smt_bench.methods.modules import numel, total_parameters
from smt_bench.methods.nf4 import TABLE_BYTES, bytes_of
from smt_bench.methods.roles import ALL, ATTENTION, MLP, expanded, inside, is_glob, matches, reads_text, role


@dataclass(frozen=True)
class Layer:
    """A module with a weight matrix of its own.

    Attributes:
        path: of the module.
        kind: of the module, e.g. "Linear".
        role: see `methods.roles`.
        shape: (O, I), or of an embedding (rows, width).
        tied: paths of the layers that share its weight.
        text: whether it belongs to the text decoder.
        inside: whether it is in the repeated blocks.
        linear: whether it computes W x + b.
        bypassed: whether kernels take its weight and not its output.
    """

    path: str
    kind: str
    role: str
    shape: tuple[int, int]
    tied: tuple[str, ...]
    text: bool
    inside: bool
    linear: bool
    bypassed: bool = False

    @property
    def unfit(self) -> str | None:
        """Why no method can have it as a target; None where one can.

        Methods replace linear layers and fold their updates into a weight of the layer's own: embeddings look rows up, and what
        is folded into a tied weight changes the other layer as well.
        """
        if self.tied:
            return f"shares its weight with {', '.join(self.tied)}"
        if self.bypassed:
            return "hands its weight to the kernels of the state-space model, which see no update beside it"
        return None if self.linear else f"is a layer of type {self.kind}, not a linear one"


@dataclass(frozen=True)
class Inventory:
    """All layers of a model.

    Attributes:
        layers: in model order.
        shapes: of all parameters, tied ones once.
        experts: numbers in parameters that hold one matrix per expert, which no method but full fine-tuning trains.
    """

    layers: tuple[Layer, ...]
    shapes: Shapes
    experts: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "shapes": {name: list(shape) for name, shape in self.shapes.items()}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Inventory:
        """The inverse of `to_dict`, also after JSON."""
        layers = (Layer(**{**v, "shape": tuple(v["shape"]), "tied": tuple(v["tied"])}) for v in values["layers"])
        shapes = {name: tuple(shape) for name, shape in values["shapes"].items()}
        return cls(tuple(layers), shapes, values["experts"])

    @property
    def total(self) -> int:
        """All numbers, the denominator of trainable fractions."""
        return total_parameters(self.shapes)

    @cached_property
    def offered(self) -> tuple[str, ...]:
        """Roles and names of what methods can have as targets, in model order."""
        inside = [x for x in self.layers if x.inside and x.text and x.role != "router"]
        unfit = {x.role for x in inside if x.unfit}
        return tuple(dict.fromkeys(x.role for x in inside if x.role not in unfit))

    @cached_property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Layers whose weights a base of 4 bits has so, with their shapes: the linear ones inside the repeated blocks."""
        return {x.path: x.shape for x in self.layers if x.linear and x.inside and not (x.tied or x.bypassed)}

    def weight_bytes(self, element: int, base: str) -> int:
        """Bytes of all weights.

        Args:
            element: bytes of a number in the model's precision.
            base: "nf4", or "": whole.
        """
        if not base:
            return element * self.total
        small = self.matrices.values()
        return element * (self.total - sum(map(numel, small))) + sum(map(bytes_of, small)) + TABLE_BYTES

    def resolve(self, targets: Sequence[str], lenient: bool = False) -> tuple[str, ...]:
        """Targets as this model has them: each means a layer that can be trained, and they stand in one order.

        Args:
            targets: roles, groups, "all-linear", own names or patterns.
            lenient: leave out what the model does not have (the layers that a method names by default); if it has none of
                them, all its linear layers.

        Raises:
            ValueError: none, or one that the model does not have or that cannot be trained.
        """
        wanted = [name for target in expanded(targets) for name in (self.offered if target == ALL else (target,))]
        if not self.offered:
            kinds = sorted({x.kind for x in self.layers if x.inside}) or ["no matrices"]
            raise ValueError(f"targets {list(targets)}: the model's blocks have no linear layers ({', '.join(kinds)})")
        if lenient:
            wanted = [name for name in wanted if name in self.offered] or [*self.offered]
        for name in wanted:
            self._check(name, targets)
        if not wanted:
            raise ValueError(f"targets {list(targets)}: none is named: choose from {', '.join(self.offered)}")
        place = {name: number for number, name in enumerate((*ATTENTION, *MLP))}
        return tuple(sorted(dict.fromkeys(wanted), key=lambda name: place.get(name, len(place))))  # one order, one key

    def _check(self, name: str, targets: Sequence[str]) -> None:
        meant = [x for x in self.layers if matches(x.path, [name])]
        unfit = next((x for x in meant if x.unfit), None)
        remedy = f"choose from {', '.join(self.offered)}, {ALL}, or a pattern on paths such as *.{self.offered[0]}"
        if not meant:
            what = "fits no layer of the model" if is_glob(name) else "is not in the model"
            if self.experts and name in MLP:
                what += ", whose MLPs are experts: their matrices are trained by full fine-tuning only"
            raise ValueError(f"targets {list(targets)}: {name} {what}: {remedy}")
        if unfit is not None:
            several = is_glob(name) or len(meant) > len(unfit.tied) + 1
            called = f"{name} ({unfit.path})" if several else name
            raise ValueError(f"targets {list(targets)}: {called} {unfit.unfit}: {remedy}")


def inventory(model: nn.Module) -> Inventory:
    """The inventory of a model, with or without storage, after `unpack`."""
    users: dict[int, list[str]] = {}
    owners: dict[str, tuple[nn.Module, nn.Parameter]] = {}
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim == 2:
            users.setdefault(id(weight), []).append(path)
            owners[path] = module, weight
    layers = []
    for path, (module, weight) in owners.items():
        tied = tuple(other for other in users[id(weight)] if other != path)
        shape = weight.shape
        layers.append(
            Layer(
                path, type(module).__name__, role(path), (shape[0], shape[1]), tied, reads_text(path), inside(path),
                isinstance(module, nn.Linear), _bypassed(model, path),
            )
        )  # fmt: skip
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    experts = sum(numel(shape) for name, shape in shapes.items() if _of_experts(name, shape))
    return Inventory(tuple(layers), shapes, experts)


def _bypassed(model: nn.Module, path: str) -> bool:
    above, _, own = path.rpartition(".")
    owner = model.get_submodule(above)
    mixes = hasattr(owner, "A_log") and any(word in type(owner).__name__ for word in ("Mixer", "Mamba"))
    return mixes and own in ("x_proj", "dt_proj", "out_proj")


def _of_experts(name: str, shape: Any) -> bool:
    return len(shape) == 3 and "expert" in name and reads_text(name)

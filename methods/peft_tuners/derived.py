"""Fields of peft configs that follow from the model's shapes or the run's length, where nobody set them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from smt_bench.methods.roles import role

Layers = Mapping[str, tuple[int, ...]]


def adalora(found: Mapping[str, Any], _units: int, _layers: Layers, steps: int) -> dict[str, Any]:
    """A tenth of the run at full rank, the last third at the final ranks, and a decision per step in between."""
    return {"total_step": max(3, steps), "tinit": steps // 10, "tfinal": max(1, steps // 3)}


def ia3(_found: Mapping[str, Any], _units: int, layers: Layers, _steps: int) -> dict[str, Any]:
    """The MLP's down projections are scaled at their inputs, as the paper does, the others at their outputs."""
    return {"feedforward_modules": [name for name in layers if role(name) == "down_proj"]}


def road(_found: Mapping[str, Any], _units: int, layers: Layers, _steps: int) -> dict[str, Any]:
    """Groups as large as peft's default where all outputs can be shared out so."""
    return {"group_size": math.gcd(64, *(shape[0] for shape in layers.values()))}


def vblora(_found: Mapping[str, Any], _units: int, layers: Layers, _steps: int) -> dict[str, Any]:
    """Vectors as long as peft's default where all sides can be cut into them."""
    return {"vector_length": math.gcd(256, *(side for shape in layers.values() for side in shape))}


def osf(_found: Mapping[str, Any], units: int, layers: Layers, _steps: int) -> dict[str, Any]:
    """As many directions to train in every matrix, whatever its rank."""
    return {"rank_pattern": {f"^{re.escape(name)}$": min(s) - units for name, s in layers.items()}}


DERIVED: dict[str, Callable[[Mapping[str, Any], int, Layers, int], dict[str, Any]]] = {
    "adalora": adalora, "ia3": ia3, "osf": osf, "road": road, "vblora": vblora,
}  # fmt: skip

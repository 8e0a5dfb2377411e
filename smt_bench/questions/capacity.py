"""What a requested fraction becomes, and whether that is near enough."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from smt_bench import methods
from smt_bench.machine.states import Demand
from smt_bench.methods.base import Capacity, Method, Shapes
from smt_bench.records.runs import Run

TOLERANCE = 0.05  # realised against requested trainable fraction, relative


def method_of(run: Run, shapes: Shapes) -> tuple[Method, Capacity]:
    """Builds the method and its capacity, before any weight is loaded.

    Raises:
        ValueError: the request is impossible, or its realised fraction is too far off.
    """
    m = run.method
    with setting_named(m.name, m.config):
        method = methods.build(m.name, m.config, m.fraction, run.seed, run.train.steps)
        capacity = method.capacity(shapes)
    check_fraction(m.name, m.fraction, capacity)
    return method, capacity


@contextmanager
def setting_named(name: str, config: Mapping[str, Any]) -> Iterator[None]:
    """Refusals of a method's setting ("block_size=7 ...", "targets [...] ...") end with how it is set."""
    try:
        yield
    except ValueError as error:
        setting = re.match(r"\w+(?=[=:]| \[)", str(error))
        if setting is None or setting[0] not in config:
            raise
        raise ValueError(f"{error} (--set {name}.{setting[0]}=...)") from None


def check_fraction(name: str, fraction: float | None, capacity: Capacity) -> None:
    """Refuses a capacity more than `TOLERANCE` off the request, unless one capacity unit is larger than that.

    Raises:
        ValueError: the realised fraction is too far off.
    """
    if fraction is None:
        return
    off = abs(capacity.fraction - fraction) / fraction
    unit = capacity.unit_numbers / (fraction * capacity.total)
    if off > TOLERANCE and unit <= TOLERANCE:
        raise ValueError(
            f"{name}: fraction {fraction:.4%} becomes {capacity.fraction:.4%} ({capacity.units} {capacity.unit}), "
            f"{off:.0%} off: choose a fraction that it can meet"
        )


def demand_of(method: Method, total: int, trainable: int, kept: int = 0, weights: int | None = None) -> Demand:
    """What a method needs of memory by rule.

    Args:
        method: with its settings.
        total: numbers in the base model.
        trainable: that it trains in the end.
        kept: bytes that its warm-up keeps.
        weights: bytes of the base model where not all of it is in the run's precision.
    """
    installed = 0 if method.trains_dense and not method.warmup_steps else trainable
    dense = method.trains_dense and not kept  # what a warm-up keeps says all of it
    return Demand(method.name, total, installed, dense, method.bytes_per_number, kept, weights)

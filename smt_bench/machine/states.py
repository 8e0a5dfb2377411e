"""The rule for what is alive from step to step: weights, gradients, optimizer. The gates, `speed`, `memory` and `plan` ask it.

Bytes of a number of the model's own weights, by precision and the optimizer's type:

                    weight  gradient  master  moments
    fp32               4        4        -       8      16
    bf16               2        2        4       8      16, and 2 more for the numbers whose float32 gradients exist at a time
    bf16, bf16 Adam    2        2        -       4       8

What a method installs beside the weights it trains in float32 whatever they are in: value, gradient, two moments. Activations are
not in it: `plan` counts them.
"""

from __future__ import annotations

from dataclasses import dataclass

CHUNK = 1 << 27  # numbers that are updated at a time, as `training.optimizer` does it
WEIGHT = {"fp32": 4, "bf16": 2}
OPTIMIZER_DTYPES = ("fp32", "bf16")
INSTALLED = 16  # bytes per number that a method installs


def trained_bytes(precision: str, optimizer_dtype: str = "fp32") -> int:
    """Bytes of a trained weight's gradient, master copy and moments."""
    if precision == "fp32":
        return 4 + 8
    return 2 + 4 if optimizer_dtype == "bf16" else 2 + 4 + 8


@dataclass(frozen=True)
class Demand:
    """What one method does to a model.

    Attributes:
        method: its name.
        parameters: numbers in the base model.
        trainable: numbers that it installs; 0 where it trains the weights themselves.
        dense: whether some phase trains all parameters.
        per_number: bytes for each number that it installs.
        kept: bytes that its warm-up needs beside the model.
        weights: bytes of the base model where not all of it is in the run's precision.
    """

    method: str
    parameters: int
    trainable: int
    dense: bool
    per_number: int = INSTALLED
    kept: int = 0
    weights: int | None = None

    def states(self, precision: str, optimizer_dtype: str = "fp32") -> int:
        """Bytes alive between two steps and in the update, in the phase that needs most."""
        weights = self.parameters * WEIGHT[precision] if self.weights is None else self.weights
        return weights + max(self.update(precision, optimizer_dtype), self.trainable * self.per_number, self.kept)

    def update(self, precision: str, optimizer_dtype: str = "fp32") -> int:
        """Bytes of gradients and optimizer of the phase that trains all parameters; 0 without one."""
        if not self.dense:
            return 0
        copied = min(self.parameters, CHUNK) if (precision, optimizer_dtype) == ("bf16", "fp32") else 0
        return self.parameters * trained_bytes(precision, optimizer_dtype) + 2 * copied

"""How a model is judged: the two protocols and their settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from smt_bench.data.family import Task

EVALUATION_VERSION = 1  # bump when the same settings can give other numbers
PROTOCOLS = ("likelihood", "llm-adapters")


@dataclass(frozen=True)
class EvalSettings:
    """How answers are obtained; part of a run's key.

    Attributes:
        protocol: "likelihood" or "llm-adapters"; what has to be generated is generated under both.
        beams: beams of the beam search (LLM-Adapters: 4).
        max_new_tokens: tokens to generate for an answer alone (LLM-Adapters: 32).
        max_new_tokens_math: the same where a rationale stands before it (LLM-Adapters, arithmetic tasks: 256).
        batch_size: prompts per forward pass; they are batched by length.
        template: name of the prompt template.
        repetition_penalty: divides the scores of tokens that stand in prompt or answer already; 1: none.
    """

    protocol: str
    beams: int
    max_new_tokens: int
    max_new_tokens_math: int
    batch_size: int
    template: str
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol={self.protocol!r} is unknown: choose one of {', '.join(PROTOCOLS)}")
        for name in ("beams", "max_new_tokens", "max_new_tokens_math", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is too small: choose at least 1")

        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise ValueError(f"repetition_penalty={self.repetition_penalty}: choose a number above 0, 1 for none")

    def protocol_of(self, task: Task) -> str:
        """The protocol that this task really gets."""
        return "llm-adapters" if task.generated else self.protocol

    def new_tokens(self, task: Task) -> int:
        """How many tokens may be generated for this task."""
        return self.max_new_tokens_math if task.rationale else self.max_new_tokens


def finite(value: float) -> float | None:
    """The value, or None where it is not a number that JSON knows."""
    return value if math.isfinite(value) else None


EVAL_BATCH = 32

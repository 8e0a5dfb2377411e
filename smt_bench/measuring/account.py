"""What an account of a training step says: bytes by category and phase, FLOPs by kind of work.

Categories:
    parameters          of the model, its buffers (e.g. SpIEL's indices), and what else the optimizer updates
    gradients           of parameters, float32 copies for the master parameters included
    optimizer_state     moments and counters
    master_copies       float32 parameters behind bf16 ones
    saved_activations   the batch, and what the forward pass leaves alive for the backward pass, or checkpointing restores
    logits_loss         from the output layer's input to the loss, forward and backward
    method_state        what the method keeps from step to step beside these (sums of gradients, candidates)
    temporaries         everything else: gradients of activations, results that are soon dropped
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CATEGORIES = (
    "parameters", "gradients", "optimizer_state", "master_copies", "saved_activations", "logits_loss", "method_state",
    "temporaries",
)  # fmt: skip
STAGES = ("warmup", "attach", "tuning")
PHASES = ("forward", "backward", "optimizer")
WORK = ("forward", "input_gradient", "weight_gradient", "recomputation", "optimizer")
HELD = ("parameters", "master_copies", "optimizer_state")  # from step to step


@dataclass
class Phase:
    """One phase of one stage.

    Attributes:
        stage: "warmup", "attach" or "tuning".
        phase: "forward" (from `before_step` to the loss), "backward" (with `observe`/`after_backward` and clipping) or
            "optimizer" (with `after_step`); "attach" for that stage.
        peak: bytes by category at the moment in this phase when most is alive.
        end: bytes by category when it ends.
    """

    stage: str
    phase: str
    peak: dict[str, int]
    end: dict[str, int]

    @property
    def peak_bytes(self) -> int:
        """All categories at the peak."""
        return sum(self.peak.values())


@dataclass
class Account:
    """What a method's steps need.

    Attributes:
        phases: in the order in which they ran.
        flops: stage -> kind of work (`WORK`) -> floating-point operations of matrix products and attention.
        trained: stage -> numbers that the optimizer updates.
    """

    phases: list[Phase] = field(default_factory=list)
    flops: dict[str, dict[str, int]] = field(default_factory=dict)
    trained: dict[str, int] = field(default_factory=dict)

    def peak(self, stage: str | None = None) -> Phase:
        """The phase with the highest peak, over all stages or in one."""
        return max((p for p in self.phases if stage in (None, p.stage)), key=lambda p: p.peak_bytes)

    def find(self, stage: str, phase: str) -> Phase:
        """One phase."""
        return next(p for p in self.phases if (p.stage, p.phase) == (stage, phase))

    def saved_activations(self, stage: str = "tuning") -> int:
        """Bytes of the graph after the forward pass, logits and loss apart."""
        return self.find(stage, "forward").end["saved_activations"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "peak_bytes": self.peak().peak_bytes,
            "peak_at": f"{self.peak().stage} {self.peak().phase}",
            "memory_bytes": {
                stage: {p.phase: {"peak": p.peak, "end": p.end} for p in self.phases if p.stage == stage}
                for stage in dict.fromkeys(p.stage for p in self.phases)
            },
            "flops": self.flops,
            "trained": self.trained,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Account:
        """The inverse of `to_dict`."""
        phases = [
            Phase(stage, name, **both)
            for stage, found in values["memory_bytes"].items()
            for name, both in found.items()
        ]
        return cls(phases, values["flops"], values["trained"])

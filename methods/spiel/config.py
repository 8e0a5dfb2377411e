"""Settings of SpIEL-AG and SpIEL-MA, the paper's values by default."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

from smt_bench.methods.base import MethodConfig
from smt_bench.methods.settings import setting


@dataclass(frozen=True)
class ScheduleConfig(MethodConfig):
    """What both have.

    Attributes:
        targets: linear layers to tune.
        update_every: S, steps between updates of the indices.
        estimate_steps: gamma, steps of the gradient estimation phase before each update.
        replace_rate: xi, share of the deltas replaced per update, extrapolated to step 0.
        weight_decay: lambda, decoupled, on the deltas; overrides the run's.
        rates: how many deltas move: "linear" (equation 8) or "cosine" (equation 11).
        updates: at gamma and then at "multiples" of S, or "offset": at gamma, S + gamma, 2 S + gamma, ..., estimated over
            gamma + 1 steps but for the first. The latter is what the authors' code does (AlanAnsell/peft, `SftSelector.step`).
        gradient: "gathered" from the dense gradient of a matrix (section 3.1, and the paper's own times), or "sampled": at the
            deltas alone (appendix E, equation 16) where that is the faster way by a fixed rule (`methods.sampled`). Its sums are
            formed in another order, so that rounding differs.
    """

    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    update_every: int = setting(20, at_least=1)
    estimate_steps: int = setting(5, at_least=1)
    replace_rate: float = setting(0.2, at_least=0, at_most=1)
    weight_decay: float = setting(0.0, at_least=0)
    rates: Literal["linear", "cosine"] = "linear"
    updates: Literal["multiples", "offset"] = "multiples"
    gradient: Literal["gathered", "sampled"] = "gathered"

    LATER: ClassVar[tuple[str, ...]] = ("rates", "updates", "gradient")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; settings that came later only where they are not the default, so that keys of before stay."""
        plain = super().to_dict()
        for one in fields(self):
            if one.name in self.LATER and plain[one.name] == one.default:
                del plain[one.name]
        return plain

    @property
    def offset(self) -> bool:
        """Whether updates come gamma steps after the multiples of S."""
        return self.updates == "offset"

    @property
    def layers(self) -> tuple[str, ...]:
        """The targets."""
        return self.targets

    def with_layers(self, layers: tuple[str, ...]) -> Self:
        """With other targets."""
        return replace(self, targets=layers)


@dataclass(frozen=True)
class SpielConfig(ScheduleConfig):
    """SpIEL-AG's settings.

    Attributes:
        candidates: "inactive" weights, or "any": what an update would drop and grow stays as it is (the authors'
            `gradient_accumulation_hook` and `select_rigl`).
        adam: "torch", or "transformers": eps 1e-6 before the bias correction, decay after the step (the authors' `SftAdamW`).

    Besides these two and `updates`, the authors' code does not clip gradients, which is the run's choice here. Under gradient
    accumulation it estimates from micro-batches and seeds moments that many times too small, and in bfloat16 its counters stop at
    256; neither is offered.
    """

    candidates: Literal["inactive", "any"] = "inactive"
    adam: Literal["torch", "transformers"] = "torch"

    LATER = (*ScheduleConfig.LATER, "candidates", "adam")

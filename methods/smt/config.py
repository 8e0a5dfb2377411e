"""SMT's settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from smt_bench.methods.base import MethodConfig
from smt_bench.methods.settings import setting
from smt_bench.methods.smt.selection import (
    BY_INPUT,
    METRICS,
    SCOPES,
)

SCHEDULES = ("continued", "fresh")


@dataclass(frozen=True)
class SmtConfig(MethodConfig):
    """SMT's settings; the defaults are the paper's (section 4).

    Attributes:
        targets: layers whose blocks may train.
        block_size: l, or "auto" for the greatest common divisor of the targeted sides; channels have none.
        metric: block score, one of table 7's four; or what chooses by inputs alone: "activation_channels" (AW-selection, appendix
            B.2) or "activation" (whole columns of blocks).
        scope: "global", "per_layer" or "random" (table 9).
        warmup_steps: steps before selection (paper: 100 on commonsense, 25 on math).
        warmup_trains: whether they also train all parameters; a frozen warm-up only looks.
        warmup_lr_scale: factor on the learning rate while they do.
        shares: part of the budget for each group of targets, e.g. {"up_proj+down_proj": 0.25, "v_proj": 0.75}; the best blocks
            are then chosen within each group (section 5.1). None: over all targets together.
        schedule: "continued": one learning-rate schedule for the whole run; "fresh": tuning has its own (the released code).
    """

    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")
    block_size: int | Literal["auto"] = setting(256, at_least=1)
    metric: str = setting("mean_abs", choices=(*METRICS, *BY_INPUT))
    scope: str = setting("global", choices=SCOPES)
    warmup_steps: int = setting(100, at_least=1)
    warmup_trains: bool = True
    warmup_lr_scale: float = setting(1.0, above=0)
    shares: dict[str, float] | None = setting(None, above=0, at_most=1)
    schedule: str = setting(SCHEDULES[0], choices=SCHEDULES)

    @property
    def layers(self) -> tuple[str, ...]:
        """The targets."""
        return self.targets

    def with_layers(self, layers: tuple[str, ...]) -> Self:
        """With other targets."""
        return replace(self, targets=layers)

    def to_dict(self) -> dict[str, Any]:
        """Without `shares` and `schedule` where they are the default, so that keys from before there were any stay."""
        values = super().to_dict()
        for name in ("shares", "schedule"):
            if values[name] == SmtConfig.__dataclass_fields__[name].default:
                del values[name]
        return values

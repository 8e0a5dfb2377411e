"""Masks chosen by a first round that trains: its steps are the run's, and the second round begins a schedule anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from typing_extensions import TypeVar

from smt_bench.methods.base import Capacity, Shapes
from smt_bench.methods.masks.base import Mask, MaskConfig
from smt_bench.methods.modules import numel, targeted
from smt_bench.methods.settings import setting


@dataclass(frozen=True)
class RoundsConfig(MaskConfig):
    """What such masks can be told.

    Attributes:
        warmup_share: of the run's steps, for the first round.
        warmup_lr_scale: factor on the learning rate in the first round.
    """

    warmup_share: float = setting(0.5, above=0, below=1)
    warmup_lr_scale: float = setting(1.0, above=0)


RoundsT_co = TypeVar("RoundsT_co", bound=RoundsConfig, default=RoundsConfig, covariant=True)


class RoundsMask(Mask[RoundsT_co]):
    """Everything but what the first round trains, and the choice.

    Attributes:
        round_bytes: that the first round needs for each targeted weight, beside the model.
    """

    round_bytes: ClassVar[int]

    @classmethod
    def recipe(cls, steps: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """A tenth of the rate for the first round: what full fine-tuning has beside sparse methods in the papers' recipe."""
        return {"warmup_lr_scale": 0.1, **given}

    @property
    def warmup_steps(self) -> int:
        """The first round."""
        return max(1, round(self.config.warmup_share * self.steps))

    def capacity(self, shapes: Shapes) -> Capacity:
        """As all masks, with what the first round needs."""
        held = sum(numel(shape) for shape in targeted(shapes, self.config.targets).values())
        return replace(super().capacity(shapes), kept=self.round_bytes * held)

    @property
    def restarts_schedule(self) -> bool:
        """The second round begins anew."""
        return True

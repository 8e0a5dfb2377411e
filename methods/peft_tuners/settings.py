"""The settings of a tuner of peft: ours, and beside them any field of its peft config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from smt_bench.methods.base import MethodConfig
from smt_bench.methods.peft_tuners import options
from smt_bench.methods.peft_tuners.knobs import KNOBS


@dataclass(frozen=True)
class TunerSettings(MethodConfig):
    """Settings of a tuner.

    Attributes:
        options: fields of its peft config with values that are not the default, by name. Written and read as settings beside the
            others: `--set peft:vera.d_initial=0.2`.
        merge: whether the update is folded into the weights before judging. In half precision this rounds the weights, and a few
            answers change.
    """

    options: tuple[tuple[str, Any], ...] = ()
    merge: bool = True
    tuner: ClassVar[str]
    ours: ClassVar[Mapping[str, str]] = {}  # fields of the peft config that other settings stand for

    def __post_init__(self) -> None:
        found = {}  # first, so that a refusal names the option
        for name, value in self.options:
            options.check_known(self.tuner, name, self._own(), self.ours)
            found[name] = options.canonical(self.tuner, name, value)
        super().__post_init__()
        if found:
            options.check_together(self.tuner, found)
        object.__setattr__(self, "options", tuple(sorted(found.items())))

    @classmethod
    def _own(cls) -> list[str]:
        return [one.name for one in fields(cls) if one.name != "options"]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """As every config; names that are none of ours are fields of the peft config."""
        own = cls._own()
        theirs = tuple((name, value) for name, value in values.items() if name not in own)
        return cls(options=theirs, **{name: value for name, value in values.items() if name in own})

    def to_dict(self) -> dict[str, Any]:
        """Options beside the other settings; `merge` only where it is not done, so that keys of before stay."""
        plain = super().to_dict()
        del plain["options"]
        if self.merge:
            del plain["merge"]
        return plain | dict(self.options)


@dataclass(frozen=True)
class TargetedSettings(TunerSettings):
    """Settings of a tuner of linear layers.

    Attributes:
        targets: layers that get the tuner.
    """

    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")

    @property
    def layers(self) -> tuple[str, ...]:
        """The targets."""
        return self.targets

    def with_layers(self, layers: tuple[str, ...]) -> Self:
        """With other targets."""
        return replace(self, targets=layers)


def config_of(tuner: str, base: type[MethodConfig]) -> type[TunerSettings]:
    """A tuner's settings: those of `base`, without targets where it has none."""
    kind = base if issubclass(base, TargetedSettings) and KNOBS[tuner].layers == "linear" else TunerSettings
    made = type(f"{tuner.title().replace('_', '')}Settings", (kind,), {"tuner": tuner, "__doc__": kind.__doc__})
    return dataclass(frozen=True)(made)

"""A tuner of `peft` as a method; what differs between tuners stands in `knobs`.

    y = f(W, A) x,   W frozen, A the tuner's own parameters beside or inside the layer

Default targets are LoRA's five (q, k, v, up, down). Injected in place, so that the engine sees the same model; in float32 also in
half-precision models, peft's own default for `get_peft_model`, which is meant for autocast (`models.precision`). Deviations from
peft's defaults: what is drawn at random and then frozen (VeRA's matrices, FourierFT's places, ...) is drawn from the run's seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from smt_bench.methods.base import Capacity, Method, MethodConfig, ParamGroup, Shapes
from smt_bench.methods.modules import freeze, replace_module, targeted, total_parameters
from smt_bench.methods.peft_tuners import options, saving, sizes
from smt_bench.methods.peft_tuners.budget import Outside, nearest
from smt_bench.methods.peft_tuners.derived import DERIVED
from smt_bench.methods.peft_tuners.knobs import KNOBS, OWN_STARTS, Knob
from smt_bench.methods.peft_tuners.settings import TargetedSettings, TunerSettings
from smt_bench.methods.roles import reads_text

BESIDE = ("gaussian", "eva", "orthogonal")  # starts of LoRA that leave the base as it is
_COUNTED: dict[tuple[str, str, int, int], int] = {}  # by method, settings, shapes and units: planning asks often


class PeftTuner(Method[TunerSettings]):
    """One tuner of peft.

    Attributes:
        tuner: its name in peft, lower case.
    """

    order = 40
    library = "peft"
    Config: ClassVar[type[MethodConfig]] = TargetedSettings
    tuner: ClassVar[str]
    starts: ClassVar[tuple[str, ...]] = ()  # values of `init_lora_weights` that the class itself carries out

    @property
    def begins(self) -> Any:
        """How LoRA's factors begin, where the tuner has any."""
        return dict(self.config.options).get("init_lora_weights", True)

    @property
    def knob(self) -> Knob:
        """What sets its size."""
        return KNOBS[self.tuner]

    @property
    def merges(self) -> bool:
        """Whether it can be folded into the weights, and should be."""
        return self.knob.merges and self.config.merge

    @property
    def whole_base(self) -> str | None:
        """For starts of LoRA that take something out of the base; beside it, no tuner writes to it before it is merged."""
        if isinstance(self.begins, bool) or self.begins in BESIDE:
            return None
        return f"init_lora_weights={self.begins!r}: begins by changing the model's own weights: choose true, gaussian or eva"

    @property
    def half(self) -> str:
        """As `get_peft_model` makes them, for autocast."""
        return "float32 parameters of the tuner"

    def check(self) -> None:
        """Tokens have to be named where they are what trains; a start has to be prepared."""
        if self.begins in OWN_STARTS and self.begins not in self.starts:
            raise ValueError(f"init_lora_weights={self.begins!r}: only peft:lora prepares it: choose that method")
        if self.knob.layers == "embedding" and not dict(self.config.options).get("token_indices"):
            raise ValueError(
                f"token_indices=[]: no token would train: choose some, --set {self.name}.token_indices=[...]"
            )

    def layers(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """The layers that get the tuner, by their full names, with the shapes of their weights."""
        if isinstance(self.config, TargetedSettings):
            return dict(targeted(shapes, self.config.targets))
        weights = {n.removesuffix(".weight"): s for n, s in shapes.items() if n.endswith(".weight")}
        if self.knob.layers == "norms":
            return {name: shape for name, shape in weights.items() if len(shape) == 1 and reads_text(name)}
        return dict([embeddings(shapes)])

    def values(self, layers: Mapping[str, tuple[int, ...]]) -> Sequence[int]:
        """The units that the knob can be set to, in order."""
        return sizes.values(self.knob, [(s[0], s[1]) for s in layers.values()], dict(self.config.options))

    def fields(self, units: int, layers: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """The fields of the peft config that are not peft's defaults."""
        knob = self.knob
        found: dict[str, Any] = dict(knob.fixed)
        for name in knob.seeded:
            found[name] = self.seed % 2**31  # some of peft's generators take no more
        if knob.field is not None:
            for name in knob.scaled:
                whole = found.get(name, options.default(self.tuner, name))
                scaled = units * whole / options.default(self.tuner, knob.field)
                found[name] = min(max(1, round(scaled)), units - 1) if name == "target_r" else scaled
            size = units * knob.per if knob.per >= 0 else 1 + units * knob.per
            found[knob.field] = size if isinstance(knob.per, float) else int(size)
        found |= dict(self.config.options)
        if self.tuner in DERIVED:
            found = DERIVED[self.tuner](found, units, layers, self.steps) | found
        return found

    def peft_config(self, units: int, layers: Mapping[str, tuple[int, ...]]) -> Any:
        """The tuner's own config, for so many units on these layers."""
        return options.made(self.tuner, {**self.fields(units, layers), "target_modules": list(layers)})

    def capacity(self, shapes: Shapes) -> Capacity:
        """The knob's value whose trainable numbers are nearest to the requested fraction."""
        layers, total = self.layers(shapes), total_parameters(shapes)
        if self.knob.field is None:
            trainable = self._count(0, layers, shapes)
            return Capacity("parameters", trainable, trainable, 1, total)
        assert self.fraction is not None
        units = self.values(layers)
        if not units:
            what = "inputs" if self.knob.values == "inputs" else "sides"
            raise ValueError(f"{self.name}: the {what} of its matrices have no divisor in common: choose other targets")
        try:
            found = nearest(units, lambda n: self._count(n, layers, shapes), self.fraction * total)
        except Outside as out:
            raise ValueError(self._outside(out, total)) from None
        return Capacity(self.knob.unit, found.units, found.trainable, found.gap, total)

    def _outside(self, out: Outside, total: int) -> str:
        on = f" on {', '.join(self.config.layers)}" if self.config.layers else ""
        asked, end = f"fraction {_percent(self.fraction or 0.0)}", _percent(out.trainable / total)
        if out.low:
            return f"{asked} is less than the least of {self.name}{on} ({end}): choose a larger fraction"
        return f"{asked} is more than {self.name} can train{on}: choose at most {end}"

    def _count(self, units: int, layers: Mapping[str, tuple[int, ...]], shapes: Shapes) -> int:
        """Trainable numbers of one value of the knob."""
        asked = json.dumps(self.config.to_dict(), sort_keys=True)
        key = (self.name, asked, hash(tuple(shapes.items())), units)
        if key not in _COUNTED:
            try:
                _COUNTED[key] = self._counted(units, layers, shapes)
            except (ValueError, TypeError, NotImplementedError, ZeroDivisionError) as error:
                raise ValueError(
                    f"{self.name}: peft refuses {self.knob.field}={units} ({' '.join(str(error).split())})"
                ) from None
        return _COUNTED[key]

    def _counted(self, units: int, layers: Mapping[str, tuple[int, ...]], shapes: Shapes) -> int:
        knob, config = self.knob, self.peft_config(units, layers)
        if knob.count is not None and all(name in knob.plain for name, _ in self.config.options):
            sides = [(s[0], s[1]) for s in layers.values()]
            return sizes.FORMULAS[knob.count](sides, units, config)
        if hasattr(config, "init_lora_weights"):
            config.init_lora_weights = True  # the others look at weights, which the skeleton has not
        return sizes.by_injection(self.tuner, config, layers, shapes, knob)

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Injects the tuner in place; seeded apart from the global state, so that no other draw moves its start."""
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        layers = self.layers(shapes)
        units = self.capacity(shapes).units
        self._fields = self.fields(units, layers)
        freeze(model)
        theirs = {id(buffer) for buffer in model.buffers()}
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self._injected = sizes.inject(self.tuner, self.peft_config(units, layers), model)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        if any(p.dtype.itemsize < 4 for p in model.parameters()):
            _meet_halves(model, theirs)
        return self.groups(model)

    def groups(self, model: nn.Module) -> list[ParamGroup]:
        """What trains, once the tuner is in the model."""
        return [ParamGroup([p for p in model.parameters() if p.requires_grad])]

    def merge(self, model: nn.Module) -> None:
        """Folds the update into the weights and puts the plain layers back."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        dtype = next(p.dtype for p in model.parameters() if not p.requires_grad)
        for name, module in list(model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                with torch.no_grad():
                    module.merge()
                replace_module(model, name, module.get_base_layer().to(dtype))
        if hasattr(model, "peft_config"):
            del model.peft_config

    def save(self, model: nn.Module, folder: Path) -> int | None:
        """In peft's own format: `adapter_config.json` and `adapter_model.safetensors`, for `PeftModel.from_pretrained`.

        None where the tuner changed the base's weights before it trained, and where peft would look for it in other layers.
        """
        if not (
            isinstance(self.begins, bool) or self.begins in ("gaussian", "eva")
        ):  # PiSSA and its like begin by changing the base
            return None
        if self.tuner == "lora" and saving.renames(model):
            return None
        return saving.save(self._injected, self.tuner, folder)

    def describe(self) -> dict[str, Any]:
        """The fields of the peft config that were not left at peft's defaults, but for names of layers."""
        return {"peft": {k: v for k, v in self._fields.items() if k not in ("feedforward_modules", "rank_pattern")}}


def embeddings(shapes: Shapes) -> tuple[str, tuple[int, ...]]:
    """The input embeddings of the text decoder, which stand first in it, and their shape."""
    return next(
        (name.removesuffix(".weight"), shape)
        for name, shape in shapes.items()
        if len(shape) == 2 and name.endswith(".weight") and reads_text(name)
    )


def _percent(fraction: float) -> str:
    return f"{fraction:.4%}" if fraction >= 1e-4 else f"{100 * fraction:.2g}%"


def _meet_halves(model: nn.Module, before: set[int]) -> None:
    """Lets a tuner in float32 meet a model in half precision: its frozen parts in float32 too, its outputs in the model's type.

    Autocast does that for products only; some tuners also add, rotate or scale.

    Args:
        model: with the tuner in it.
        before: ids of the buffers that are the model's own.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and id(buffer) not in before and buffer.is_floating_point():
                module._buffers[name] = buffer.to(torch.promote_types(buffer.dtype, torch.float32))
        if isinstance(module, BaseTunerLayer):
            module.register_forward_hook(_as_its_input)


def _as_its_input(_module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    return output.to(args[0].dtype) if args and args[0].is_floating_point() else output

"""Trainable numbers of a tuner, from shapes alone: on a skeleton of the target layers without storage, or by formula.

The skeleton is a tree of plain layers with the model's names on the device "meta"; peft puts the tuner into it as it would into
the model, so that whatever its options do to the size is counted. Legend: matrices are (O, I).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import Shapes
from smt_bench.methods.peft_tuners.knobs import Knob

Matrices = Mapping[str, tuple[int, ...]]  # layer name -> shape of its weight


def skeleton(layers: Matrices, shapes: Shapes, knob: Knob) -> nn.Module:
    """Layers of these names and shapes, without storage."""
    root = nn.Module()
    kinds: dict[str, Callable[[tuple[int, ...], bool], nn.Module]] = {
        "linear": lambda s, bias: nn.Linear(s[1], s[0], bias=bias),
        "norms": lambda s, bias: nn.LayerNorm(s[0], bias=bias),
        "embedding": lambda s, _bias: nn.Embedding(s[0], s[1]),
    }
    for name, shape in layers.items():
        owner = root
        *above, last = name.split(".")
        for part in above:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.add_module(last, kinds[knob.layers](shape, f"{name}.bias" in shapes))
    return root


def by_injection(tuner: str, config: Any, layers: Matrices, shapes: Shapes, knob: Knob) -> int:
    """What trains in the skeleton once peft has put the tuner in."""
    with torch.device("meta"):  # peft's own tensors too: on a 7B model drawing them would take minutes
        model = skeleton(layers, shapes, knob)
        inject(tuner, config, model)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def inject(tuner: str, config: Any, model: nn.Module) -> Any:
    """Puts a tuner into a model in place and freezes the rest; returns peft's tuner, which may hold what layers share.

    Raises:
        ValueError: peft refuses, in its own words.
    """
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    made = PEFT_TYPE_TO_TUNER_MAPPING[PeftType(tuner.upper())]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on peft's own files and defaults
        # Not `inject_adapter_in_model`, which drops what layers share (VeRA, VB-LoRA, ...) with the tuner.
        # Of a model that it knows by its type peft rewrites LoRA's targets, e.g. up_proj of a shared expert to the matrices of
        # all experts: it is given a module without a type, and layers by their full names.
        injected = made(nn.ModuleDict({"model": model}) if tuner == "lora" else model, config, "default")
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:  # AdaLoRA's, which never trains; of one without storage peft forgets to say so
            parameter.requires_grad_(False)
    return injected


def lora(sides: list[tuple[int, int]], rank: int, config: Any) -> int:
    """Rank r costs r (I + O) per matrix, DoRA's magnitudes O more; SHiRA has as many entries."""
    magnitudes = sum(o for o, _ in sides) if getattr(config, "use_dora", False) else 0
    return rank * sum(o + i for o, i in sides) + magnitudes


def adamss(sides: list[tuple[int, int]], rank: int, config: Any) -> int:
    """One number per row, and r per cluster of rows."""
    return sum(o + min(config.num_subspaces, o) * rank for o, _ in sides)


def boft(sides: list[tuple[int, int]], block: int, _config: Any) -> int:
    """I / b rotations of b x b, and a scale per output."""
    return sum(i * block + o for o, i in sides)


def each(sides: list[tuple[int, int]], count: int, _config: Any) -> int:
    """As many numbers in every layer."""
    return count * len(sides)


def psoft(sides: list[tuple[int, int]], rank: int, _config: Any) -> int:
    """A rotation of r x r, and two vectors of magnitudes."""
    return len(sides) * (rank * (rank - 1) // 2 + 2 * rank)


def vector(_sides: list[tuple[int, int]], length: int, _config: Any) -> int:
    """One vector for all layers."""
    return length


def frod(sides: list[tuple[int, int]], _units: int, config: Any) -> int:
    """A strength per input and a share of the I x I entries outside the diagonal, at least one."""
    return sum(i + max(1, min(int(i * i * config.sparse_rate), i * i - i)) for _, i in sides)


def randlora(sides: list[tuple[int, int]], rank: int, _config: Any = None) -> int:
    """With m the smaller side: a matrix of rank m is made of ceil(m / r) bases, each with r + m numbers."""
    return sum(-(-min(s) // rank) * (rank + min(s)) for s in sides)


FORMULAS: dict[str, Callable[[list[tuple[int, int]], int, Any], int]] = {
    "lora": lora, "adamss": adamss, "boft": boft, "each": each, "frod": frod, "randlora": randlora,
    "vector": vector, "psoft": psoft,
}  # fmt: skip


def values(knob: Knob, sides: list[tuple[int, int]], options: Mapping[str, Any]) -> range | list[int]:
    """The units that the knob can be set to, in order; empty where the matrices allow none."""
    smallest = min(min(s) for s in sides)
    step = options.get(knob.step_from, knob.step) if knob.step_from else knob.step
    if knob.values in ("inputs", "sides"):
        common = (
            math.gcd(*(i for _, i in sides)) if knob.values == "inputs" else math.gcd(*(x for s in sides for x in s))
        )
        least = 2 if knob.values == "inputs" else 1  # a 1 x 1 rotation has nothing to train
        return [n for n in range(least, common + 1) if common % n == 0]
    if knob.values == "bases":
        most = max(min(s) for s in sides)
        kept: list[int] = []
        for rank in dict.fromkeys(-(-most // bases) for bases in range(1, most + 1)):
            if not kept or randlora(sides, rank) > randlora(
                sides, kept[-1]
            ):  # bases are whole: now and then a rank wins nothing
                kept.append(rank)
        return kept
    if knob.values == "share":  # at least one entry of every matrix
        return range(-(-1_000_000 // min(o * i for o, i in sides)), 1_000_000)
    most = {
        "narrowest": smallest,
        "widest": max(min(s) for s in sides),
        "longest": max(max(s) for s in sides),
        "entries": min(o * i for o, i in sides),
        "sparse": min(o * i // (o + i) for o, i in sides),
        "rest": smallest - 1,
        "core": options.get("r", 2) ** 2,
        "adapters": options.get("r", 4) * sum(o + i for o, i in sides),
    }[knob.values]
    return range(max(step, knob.least), most + 1, step)

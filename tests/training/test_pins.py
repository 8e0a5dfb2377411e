"""Numbers that no test of equality would miss: rates, clipping, weight decay and the tolerance of the fraction.

The weights after every step of a real loop are compared with a version in float64, written from the formulas: the norm of
all that trains is clipped (Pascanu et al. 2013), AdamW's decay is decoupled (Loshchilov and Hutter 2019, algorithm 2, with
bias correction as in Kingma and Ba 2015), and the rate rises and falls in a line.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_llama
from made_up import RUN
from torch import nn

from smt_bench.data.prompts import IGNORED, Encoded
from smt_bench.machine.spread import ALONE
from smt_bench.measuring.contestant import CLIP
from smt_bench.methods.base import Capacity, MethodConfig, ParamGroup
from smt_bench.methods.full import Full
from smt_bench.questions.capacity import check_fraction
from smt_bench.questions.recipes import RECIPES
from smt_bench.records.runs import TrainRef
from smt_bench.training.loop import Loop, Trained
from smt_bench.training.optimizer import linear_factor
from smt_bench.training.resume import Keeper

STEPS, WARMUP = 6, 2  # of the method: its moments start anew after it
RATE_WARMUP = 3
RATE, DECAY, BETAS = 1e-2, 0.7, (0.8, 0.9)
EPS = 1e-3  # as large as the gradients: AdamW would hide their scale, and so the clipping
WARMUP_SCALE, MLP_SCALE, MLP_DECAY = 0.2, 0.4, 3.0
Weights = dict[str, torch.Tensor]


def ramp(step: int, steps: int, warmup: int) -> float:
    """The drawn line: 0 before the first step, 1 from the last warm-up step to the one after it, 0 after the last step."""
    return float(np.interp(step, [0, warmup, warmup + 1, steps + 1], [0, 1, 1, 0]))


class InGroups(Full):
    """A dense warm-up at a rate of its own; then attention as the run says, the MLP by its own rate and decay, no more."""

    @property
    def warmup_steps(self) -> int:
        return WARMUP

    def warmup(self, model: nn.Module) -> list[ParamGroup]:
        return [ParamGroup(list(model.parameters()), lr_scale=WARMUP_SCALE)]

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        parts: dict[str, list[nn.Parameter]] = {"self_attn": [], "mlp": [], "rest": []}
        for name, parameter in model.named_parameters():
            parts[next((part for part in parts if part in name), "rest")].append(parameter)
        for parameter in parts["rest"]:
            parameter.requires_grad_(False)
        return [
            ParamGroup(parts["self_attn"]),
            ParamGroup(parts["mlp"], lr_scale=MLP_SCALE, weight_decay=MLP_DECAY),
        ]


def of_group(name: str, step: int) -> tuple[float, float] | None:
    """Factor on the rate, and decay, of a parameter at a step; None where it is frozen."""
    if step <= WARMUP:
        return WARMUP_SCALE, DECAY
    if "self_attn" in name:
        return 1.0, DECAY
    return (MLP_SCALE, MLP_DECAY) if "mlp" in name else None


def examples() -> list[Encoded]:
    """Five of different lengths; the prompt has no label."""
    draw = torch.Generator().manual_seed(4)
    made = []
    for length in (5, 9, 7, 12, 6):
        ids = torch.randint(3, 300, (length,), generator=draw).tolist()
        made.append(Encoded(tuple(ids), tuple([IGNORED] * 3 + ids[3:])))
    return made


def looped(model: Any, clip: float) -> tuple[list[Weights], Trained]:
    """The weights after every step of the project's loop; every batch is all examples, in two micro-batches."""
    items, seen = examples(), list[Weights]()
    train = TrainRef(RATE, STEPS, len(items), 3, RATE_WARMUP, DECAY, BETAS, EPS, clip, "fp32", False)
    loop = Loop(
        replace(RUN, train=train), model, InGroups(MethodConfig(), None, 0, STEPS), [len(e.ids) for e in items],
        items.__getitem__, 0, torch.device("cpu"),
        lambda step, loss: seen.append({n: p.detach().clone() for n, p in model.named_parameters()}), Keeper(), ALONE,
    )  # fmt: skip
    return seen, loop.train(lambda: None)


@dataclass
class Naive:
    """The same from the formulas, in float64, one example at a time."""

    model: Any
    clip: float

    def loss(self) -> torch.Tensor:
        total, count = torch.zeros((), dtype=torch.float64), 0
        for item in examples():
            logits = self.model(input_ids=torch.tensor([item.ids])).logits[0]
            for t, label in enumerate(item.labels):
                if label != IGNORED:
                    total, count = total - logits[t - 1].log_softmax(-1)[label], count + 1
        return total / count

    def steps(self) -> tuple[list[Weights], list[float], list[float]]:
        weights, losses, norms = list[Weights](), list[float](), list[float]()
        for step in range(1, STEPS + 1):
            if step in (1, WARMUP + 1):
                first, means, squares = step, dict[str, Any](), dict[str, Any]()
            named = {n: p for n, p in self.model.named_parameters() if of_group(n, step)}
            loss = self.loss()
            grads = dict(zip(named, torch.autograd.grad(loss, list(named.values()))))
            norm = sum(float((g**2).sum()) for g in grads.values()) ** 0.5
            age = step - first + 1
            for name, grad in grads.items():
                grad = grad * min(1.0, self.clip / norm)
                scale, decay = of_group(name, step) or (0.0, 0.0)
                means[name] = BETAS[0] * means.get(name, 0.0) + (1 - BETAS[0]) * grad
                squares[name] = BETAS[1] * squares.get(name, 0.0) + (1 - BETAS[1]) * grad**2
                mean, square = means[name] / (1 - BETAS[0] ** age), squares[name] / (1 - BETAS[1] ** age)
                rate = RATE * scale * ramp(step, STEPS, RATE_WARMUP)
                with torch.no_grad():
                    named[name] -= rate * (mean / (square**0.5 + EPS) + decay * named[name])
            weights.append({n: p.detach().clone() for n, p in self.model.named_parameters()})
            losses.append(loss.item())
            norms.append(norm)
        return weights, losses, norms


@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_the_loop_is_adamw_with_clipping_groups_and_a_ramp(clip: float) -> None:
    model = tiny_llama(2)
    started = {n: p.detach().clone() for n, p in model.named_parameters()}
    expected, losses, norms = Naive(copy.deepcopy(model).double(), clip).steps()
    assert min(norms) > 0.05 and max(norms) < 1e6  # always clipped, or never
    found, trained = looped(model, clip)
    assert trained.losses == pytest.approx(losses, rel=1e-5)
    assert trained.grad_norms == pytest.approx(norms, rel=1e-4)  # before clipping
    for step, (ours, theirs) in enumerate(zip(found, expected, strict=True), 1):
        for name, weight in ours.items():
            moved = (theirs[name] - started[name]).abs().max().item()
            off = (weight - theirs[name]).abs().max().item()
            assert off < 1e-3 * moved, f"step {step}, {name}: moved by {moved:.2e}, {off:.2e} off"


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (7, 0), (7, 1), (8, 3), (6, 6), (220, 5)])
def test_the_rate_rises_and_falls_in_a_line(steps: int, warmup: int) -> None:
    for step in range(1, steps + 1):
        assert linear_factor(step, steps, warmup) == pytest.approx(ramp(step, steps, warmup), abs=1e-12)


def test_timed_steps_clip_as_every_recipe_does() -> None:
    assert {CLIP} == {recipe.max_grad_norm for recipe in RECIPES.values()} == {1.0}


def asked(trainable: int, unit: int) -> None:
    """A request of 1 % of a million numbers, of which `trainable` train, in units of `unit`."""
    check_fraction("smt", 0.01, Capacity("blocks", trainable // unit, trainable, unit, 1_000_000))


def test_the_fraction_may_be_off_by_a_twentieth_or_less_than_a_unit() -> None:
    for near in (9_501, 10_499):
        asked(near, 1)
    for far in (9_499, 10_501):
        with pytest.raises(ValueError, match=r"fraction 1.0000% becomes .* 5% off: choose a fraction"):
            asked(far, 1)
    asked(15_000, 501)  # one unit is more than a twentieth: no request can be met more nearly
    with pytest.raises(ValueError, match="50% off"):
        asked(15_000, 499)
    check_fraction("full", None, Capacity("parameters", 1, 1, 1, 1))

"""Are the numbers of a device right? Block gradients against float64, and every method's steps against the CPU's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from smt_bench import methods
from smt_bench.checks.report import Findings
from smt_bench.machine import determinism
from smt_bench.measuring.contestant import CLIP
from smt_bench.measuring.random_inputs import random_batch, random_model
from smt_bench.methods import guarded, sampled
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.smt.gradients import FUSED, WAYS
from smt_bench.methods.smt.install import WRITE as SMT_WRITE
from smt_bench.methods.spiel.write import WRITE as SPIEL_WRITE
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater, Updater
from smt_bench.training.step import Step

# Relative error of all blocks (Frobenius): of halves the type's own rounding of a result; of float32, sums of thousands.
BOUNDS = {torch.float32: 1e-5, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
SIZES = ((256, 4096), (256, 1001), (96, 37), (64, 1), (32, 513), (16, 130))  # side, tokens
SMALL_SIZES = ((32, 130), (16, 1))

MODEL, LAYERS, FRACTION = "bench-60m", 2, 0.02
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "smt": ("smt", {"block_size": 64, "warmup_steps": 2}),
    "smt, frozen warm-up": ("smt", {"block_size": 64, "warmup_steps": 2, "warmup_trains": False}),
    "spiel": ("spiel", {"update_every": 4, "estimate_steps": 2}),
    "lora": ("lora", {"dropout": 0.0}),
    "dora": ("dora", {"dropout": 0.0}),
}
KERNELS_OF = ("smt, frozen warm-up", "spiel")  # with a kernel of their own
KERNELS = (FUSED, SMT_WRITE, SPIEL_WRITE)
LOSS, MOVED = 1e-4, 0.05  # relative; of the way that the weights went


def ways(found: Findings, device: torch.device, small: bool) -> None:
    """Every way to the block gradients, and the gradient at deltas alone, against dense products in float64."""
    for name, way in WAYS.items():
        if name == "fused" and device.type != "cuda":
            found.add("ways", name, "skipped", "a Triton kernel, for GPUs")
            continue
        for dtype, bound in BOUNDS.items():
            what, worst = f"{name}, {_name(dtype)}", 0.0
            with found.guarded("ways", what):
                for side, tokens in SMALL_SIZES if small else SIZES:
                    error = way_error(way, dtype, side, tokens, device)
                    worst = error if math.isnan(error) else max(worst, error)
                found.add(
                    "ways", what, "pass" if worst <= bound else "FAIL",
                    f"largest error {worst:.1e} of float64, at most {bound:.1e}", error=worst, bound=bound,
                )  # fmt: skip
    deltas(found, device, small)


def deltas(found: Findings, device: torch.device, small: bool) -> None:
    """SpIEL's gradient at the deltas alone against dense products in float64."""
    outputs, inputs, tokens = (96, 40, 130) if small else (1024, 768, 1001)
    way = sampled.fused if device.type == "cuda" else sampled.by_row
    for dtype, bound in BOUNDS.items():
        what = f"deltas alone, {way.__name__}, {_name(dtype)}"
        with found.guarded("ways", what):
            generator = torch.Generator().manual_seed(tokens)
            dy_TO, x_TI = (torch.randn(tokens, n, generator=generator).to(device, dtype) for n in (outputs, inputs))
            places_D = torch.randperm(outputs * inputs, generator=generator)[: outputs * inputs // 50].int().to(device)
            want_D = (dy_TO.double().cpu().t() @ x_TI.double().cpu()).view(-1)[places_D.long().cpu()]
            error = float((way(dy_TO, x_TI, places_D).double().cpu() - want_D).norm() / want_D.norm())
            found.add(
                "ways", what, "pass" if error <= bound else "FAIL",
                f"error {error:.1e} of float64, at most {bound:.1e}", error=error, bound=bound,
            )  # fmt: skip


def way_error(way: Any, dtype: torch.dtype, side: int, tokens: int, device: torch.device) -> float:
    """Relative error of one way on random inputs; activations are a strided view where the side is 96."""
    generator = torch.Generator().manual_seed(side * tokens)

    def drawn(columns: int) -> torch.Tensor:
        return torch.randn(tokens, columns, generator=generator).to(device, dtype)

    dy_TO = drawn(8 * side)[:, ::2] if side == 96 else drawn(4 * side)
    kept_TC = drawn(3 * side)
    pairs = [(0, 0), (3, 0), (1, 2), (2, 1), (3, 2)]
    exact_NllL = [
        dy_TO[:, r * side : (r + 1) * side].double().cpu().t() @ kept_TC[:, c * side : (c + 1) * side].double().cpu()
        for r, c in pairs
    ]
    want = torch.stack(exact_NllL)
    got = way(dy_TO, kept_TC, pairs, side).double().cpu()
    return float((got - want).norm() / want.norm())


def compare(found: Findings, device: torch.device, steps: int) -> None:
    """The same steps on the CPU and on the device, in float32: losses, where the weights went, what was chosen."""
    for label, (name, config) in CASES.items():
        with found.guarded("methods", label):
            start = random_model(MODEL, "fp32", torch.device("cpu"), 0, LAYERS).state_dict()
            plain, other = (taken(name, config, steps, on) for on in (torch.device("cpu"), device))
            _held_against(found, label, start, plain, other)


def kernels(found: Findings, device: torch.device, steps: int) -> None:
    """The same steps in bf16 on the device, with the Triton kernels and without: as models of billions are trained."""
    for label in KERNELS_OF:
        name, config = CASES[label]
        what = f"{label}, bf16, kernels against plain ways"
        with found.guarded("methods", what), determinism.switched_on():  # so that nothing but the kernels differs
            start = random_model(MODEL, "bf16", torch.device("cpu"), 0, LAYERS).state_dict()
            other = taken(name, config, steps, device, "bf16")
            with guarded.set_aside(*KERNELS):
                plain = taken(name, config, steps, device, "bf16")
            _held_against(found, what, start, plain, other)


def _held_against(found: Findings, what: str, start: Any, plain: Any, other: Any) -> None:
    """A finding from two times `taken`, and the weights that both began with."""
    loss = max(abs(a - b) / abs(a) for a, b in zip(plain["losses"], other["losses"], strict=True))
    moved = math.sqrt(sum(_square(plain["weights"][k] - start[k]) for k in start))
    apart = math.sqrt(sum(_square(plain["weights"][k] - other["weights"][k]) for k in start))
    same = plain["chosen"] == other["chosen"]
    right = loss <= LOSS and moved > 0 and apart <= MOVED * moved and same
    says = f"losses differ by {loss:.1e}, weights by {apart / moved if moved else math.nan:.1e} of their way; "
    found.add(
        "methods", what, "pass" if right else "FAIL", says + ("same choices" if same else "OTHER CHOICES"),
        loss=loss, weights=apart / moved if moved else None, same=same, steps=len(plain["losses"]),
    )  # fmt: skip


def taken(
    name: str, config: dict[str, Any], steps: int, device: torch.device, precision: str = "fp32"
) -> dict[str, Any]:
    """Some steps of a method on a device: losses, merged weights on the CPU, and what it chose."""
    model = random_model(MODEL, precision, torch.device("cpu"), 0, LAYERS).to(device)
    method = methods.build(name, config, FRACTION if methods.find(name).takes_fraction else None, 0, 1000)
    batch, settings, losses = random_batch(MODEL, 2, 64, 0, device), OptimizerSettings(1e-3), list[float]()

    def updater(groups: Any) -> Updater:
        return TorchUpdater(model, method, groups, settings, CLIP) if groups else FrozenUpdater(model)

    def rounds() -> Iterator[tuple[Step, range]]:
        if method.warmup_steps:
            yield Step("warmup", model, method, updater(method.warmup(model))), range(1, method.warmup_steps + 1)
        yield Step("tuning", model, method, updater(method.attach(model))), range(method.warmup_steps + 1, steps + 1)

    for step, numbers in rounds():
        losses += [step.take(number, [batch], 1.0).loss for number in numbers]
    described = method.describe()
    method.merge(model)
    weights = {k: v.detach().cpu() for k, v in model.state_dict().items()}
    return {"losses": losses, "weights": weights, "chosen": {k: described.get(k) for k in ("blocks", "replaced")}}


def _square(tensor: torch.Tensor) -> float:
    return tensor.double().square().sum().item()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

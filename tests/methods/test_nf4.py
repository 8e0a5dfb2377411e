"""Weights of 4 bits: what is read, what is kept, and that methods train over them as over the same numbers written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import tiny_llama
from labelled import labelled
from torch import nn
from torch.nn import functional as F

from smt_bench import methods
from smt_bench.methods.base import Method, OptimizerSettings
from smt_bench.methods.deltas import SpielLinear
from smt_bench.methods.nf4 import TABLE_BYTES, Nf4, bytes_of, quantized, stored
from smt_bench.methods.peft_tuners import known
from smt_bench.methods.smt.layer import SparseLinear
from smt_bench.models import merging
from smt_bench.models.inventory import inventory
from smt_bench.models.quantized import make_whole, quantize
from smt_bench.training.checkpoint import fingerprint
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.step import Step

bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: nothing can be quantized")

STEPS, FRACTION = 6, 0.04
OURS: dict[str, dict[str, Any]] = {
    "smt": {"block_size": 16, "warmup_steps": 2, "warmup_trains": False},
    "spiel": {"update_every": 2, "estimate_steps": 1},
    "spiel-ma": {"update_every": 2, "estimate_steps": 1},
    "lora": {}, "dora": {}, "random-mask": {}, "fish": {"warmup_steps": 2}, "sift": {"warmup_steps": 2}, "s2ft": {},
}  # fmt: skip
BESIDE = ("ia3", "adalora", "oft", "shira")  # of peft's tuners, in the default tests; the slow ones try all
SMALLER = {
    "adamss": 0.02,
    "lokr": 0.01,
    "miss": 0.02,
    "p_tuning": 0.15,
    "psoft": 0.005,
    "pvera": 0.008,
    "tinylora": 4e-4,
    "vera": 0.008,
}


def build(name: str) -> Method:
    config = OURS.get(name, {"token_indices": [3, 5, 7]} if name == "peft:trainable_tokens" else {})
    fraction = SMALLER.get(name.removeprefix("peft:"), FRACTION) if methods.find(name).takes_fraction else None
    return methods.build(name, config, fraction, 5, STEPS)


def batch(step: int) -> Any:
    return labelled(torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(step)))


class Training:
    """Steps of a method on a model, warm-up first."""

    def __init__(self, method: Method, model: Any) -> None:
        self.method, self.model, self.losses = method, model.train(), []
        if method.warmup_steps:
            assert method.warmup(model) == []
            self._go("warmup", FrozenUpdater(model), range(1, method.warmup_steps + 1))
        groups = method.attach(model)
        self.updater = TorchUpdater(model, method, groups, OptimizerSettings(1e-2), math.inf)

    def go(self, last: int = STEPS) -> Training:
        self._go("tuning", self.updater, range(len(self.losses) + 1, last + 1))
        return self

    def _go(self, stage: Any, updater: Any, numbers: range) -> None:
        step = Step(stage, self.model, self.method, updater)
        for number in numbers:
            torch.manual_seed(number)
            self.losses.append(step.take(number, [batch(number)], 1.0).loss)


def prints(model: nn.Module) -> dict[str, str]:
    return {name: fingerprint(p) for name, p in model.named_parameters() if isinstance(p, Nf4)}


def written_out(model: Any) -> Any:
    """The model with the quantized numbers in whole matrices."""
    quantize(model)
    make_whole(model)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_read_is_what_bitsandbytes_dequantizes(dtype: torch.dtype) -> None:
    weight = torch.randn(192, 576).to(dtype)
    packed, state = bnb.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True, blocksize=64)
    made = quantized(weight)
    assert isinstance(made, Nf4) and isinstance(made, nn.Parameter) and not made.requires_grad
    assert (made.shape, made.dtype) == (weight.shape, dtype)
    assert torch.equal(made.whole(), bnb.functional.dequantize_4bit(packed, state))
    # The largest error of NF4 within a block is half the widest gap of its 16 levels (0.15) times the block's magnitude.
    blocks = (made.whole().float() - weight.float()).view(-1, 64).abs().amax(1) / weight.float().view(
        -1, 64
    ).abs().amax(1)
    assert 0.05 < blocks.max() < 0.17
    assert sum(t.numel() * t.element_size() for t in stored([made])) == bytes_of((192, 576)) + TABLE_BYTES


def test_autograd_keeps_the_codes_alone_and_the_gradients_are_right() -> None:
    layer = nn.Linear(192, 64)
    layer.weight = quantized(layer.weight)
    x = torch.randn(3, 5, 192, requires_grad=True)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        y = layer(x)
    assert [type(t) for t in kept] == [Nf4]
    (y * torch.arange(64.0)).sum().backward()
    reference = x.detach().double().requires_grad_()
    bias = layer.bias.detach().double().requires_grad_()
    (F.linear(reference, layer.weight.whole().double(), bias) * torch.arange(64.0)).sum().backward()
    torch.testing.assert_close(x.grad.double(), reference.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.bias.grad.double(), bias.grad)


@pytest.mark.parametrize(
    "write",
    [
        lambda w: w.data.add_(1), lambda w: w.detach().copy_(torch.zeros(64, 64)), lambda w: torch.nn.init.zeros_(w),
        lambda w: setattr(w, "data", torch.zeros(64, 64)),
    ],
)  # fmt: skip
def test_writing_to_it_is_refused(write: Callable[[Any], Any]) -> None:
    weight = quantized(torch.randn(64, 64))
    before = fingerprint(weight)
    with pytest.raises(RuntimeError, match="4 bits"):
        write(weight)
    assert fingerprint(weight) == before


@pytest.mark.parametrize("kind", ["smt", "spiel"])
def test_gradients_are_those_of_the_dense_weight_at_the_chosen_places(kind: str) -> None:
    """Of the dequantized weight with some numbers of its own in it, in float64, gathered."""
    layers = Training(build(kind), quantize(tiny_llama())).go(4).method._layers if kind == "smt" else None  # type: ignore[attr-defined]
    if layers is None:
        layers = Training(build(kind), quantize(tiny_llama())).go(4).method.layers  # type: ignore[attr-defined]
    layer = next(iter(layers.values()))
    assert isinstance(layer, SparseLinear | SpielLinear) and isinstance(layer.weight, Nf4)
    train = layer.blocks if isinstance(layer, SparseLinear) else layer.deltas
    bare, own = layer.weight.whole(written=False).double(), layer.weight.whole().double()
    if isinstance(layer, SparseLinear):
        at = torch.zeros_like(bare)
        for number, (row, column) in enumerate(layer.index):
            places = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
            assert torch.equal(own[places], train[number].detach().double())
            at[places] = 1
    else:
        at = torch.zeros_like(bare).view(-1).index_fill(0, layer.indices.long(), 1).view_as(bare)
        assert torch.equal(layer.base.double(), bare.view(-1)[layer.indices.long()])
    assert torch.equal((own != bare) & (at == 0), torch.zeros_like(bare, dtype=torch.bool))
    assert (own != bare).sum() > 0.9 * at.sum()
    x, dy = torch.randn(7, bare.shape[1], dtype=torch.float64), torch.randn(7, bare.shape[0], dtype=torch.float64)
    train.grad = None
    x_own = x.float().requires_grad_()
    layer(x_own).backward(dy.float())
    assert train.grad is not None
    dense = dy.T @ x
    if isinstance(layer, SparseLinear):
        wanted = torch.stack([dense[16 * r : 16 * r + 16, 16 * c : 16 * c + 16] for r, c in layer.index])
    else:
        wanted = dense.view(-1)[layer.indices.long()]
    torch.testing.assert_close(train.grad.double(), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x_own.grad.double(), dy @ own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [*OURS, *(f"peft:{name}" for name in BESIDE)]
    + [pytest.param(f"peft:{name}", marks=pytest.mark.slow) for name in known.working() if name not in BESIDE],
)
def test_a_method_trains_as_over_the_same_numbers_written_out(name: str) -> None:
    model, whole = quantize(tiny_llama()), written_out(tiny_llama())
    assert build(name).whole_base is None
    before, names = prints(model), set(inventory(model).matrices)
    assert {path.removesuffix(".weight") for path in before} == names and len(names) == 14
    training = Training(build(name), model).go()
    assert len(set(training.losses[build(name).warmup_steps :])) > 1, "nothing trains"
    assert training.losses == Training(build(name), whole).go().losses
    after = prints(model)
    assert sorted(after.values()) == sorted(before.values()), "the base has changed"
    kept = merging.merge(training.method, model)
    assert kept["unmerged"] == name and prints(model) == after
    make_whole(model)
    merged = merging.merge(training.method, model)
    if training.method.merges:
        assert merged["difference"] is not None and merged["difference"] <= 1e-5
        assert not any(isinstance(p, Nf4) for p in model.parameters())


@pytest.mark.parametrize("name", ["smt", "spiel", "spiel-ma", "dora", "random-mask"])
def test_it_goes_on_where_it_was_saved(name: str) -> None:
    """Only what trains and the method's state are saved; the base comes from its files and is quantized anew."""
    from smt_bench.training.optimizer import tensors_of
    from smt_bench.training.resume import copy_into, fingerprints, pack, unpack_method

    whole = Training(build(name), quantize(tiny_llama())).go()
    first = Training(build(name), quantize(tiny_llama()))
    start = fingerprints(tensors_of(first.model))
    first.go(4)
    now = fingerprints(tensors_of(first.model))
    saved = {n: v.clone() for n, v in tensors_of(first.model).items() if now[n] != start[n]}
    assert saved and not any(isinstance(v, Nf4) or v.shape == (64, 64) for v in saved.values()), "the base is saved"
    method_state, optimizer = pack(first.method.state_dict()), first.updater.state_dict()
    method, model = build(name), quantize(tiny_llama()).train()
    method.load_state_dict(unpack_method({"method": method_state}))
    second = Training.__new__(Training)
    second.method, second.model, second.losses = method, model, list(first.losses)
    groups = method.attach(model)
    copy_into(model, saved)
    assert fingerprints(tensors_of(model)) == now
    second.updater = TorchUpdater(model, method, groups, OptimizerSettings(1e-2), math.inf)
    second.updater.load_state_dict(optimizer)
    assert second.go().losses == whole.losses


@pytest.mark.parametrize(
    ("name", "config", "why"),
    [
        ("full", {}, "it trains the model's own weights"),
        ("lt-sft", {}, "it trains the model's own weights"),
        ("smt", {"warmup_steps": 2}, "warmup_trains=True"),
        ("smt", {"warmup_steps": 2, "warmup_trains": False, "metric": "abs_mean"}, "metric='abs_mean'"),
        ("peft:lora", {"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    ],
)
def test_methods_that_write_to_the_base_say_so(name: str, config: dict[str, Any], why: str) -> None:
    fraction = FRACTION if methods.find(name).takes_fraction else None
    assert (methods.build(name, config, fraction, 0, STEPS).whole_base or "").startswith(why)

"""Bytes and FLOPs of a step, against what can be worked out by hand or counted in another way."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import VOCABULARY, tiny_llama
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from smt_bench import methods
from smt_bench.data.batches import Batch
from smt_bench.measuring.account import CATEGORIES, Account
from smt_bench.measuring.accountant import account
from smt_bench.measuring.live_tensors import LiveStorages, replay
from smt_bench.methods.base import Capacity, Method, MethodConfig, OptimizerSettings, ParamGroup, Shapes
from smt_bench.methods.modules import freeze, total_parameters
from smt_bench.training.loss import enable_checkpointing, response_loss

BATCH, LENGTH = 2, 12
SETTINGS = OptimizerSettings(1e-3)
CASES: dict[str, dict[str, Any]] = {
    "full": {},
    "smt": {"block_size": 16, "warmup_steps": 1},
    "smt-frozen": {"block_size": 16, "warmup_steps": 1, "warmup_trains": False},
    "lora": {},
    "dora": {"dropout": 0.0},
    "spiel": {"update_every": 3, "estimate_steps": 2},
    "fish": {"warmup_steps": 2},
}


def batch(masked: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    labels = ids.roll(-1, 1)
    labels[:, -masked:] = -100
    return ids, labels


@cache
def counted(case: str, dtype: torch.dtype = torch.float32, checkpointing: bool = False) -> Account:
    name = case if case in methods.REGISTRY.names() else case.partition("-")[0]
    method = methods.build(name, CASES[case], None if case == "full" else 0.05, 0, 8)
    return account(tiny_llama().to(dtype).train(), method, SETTINGS, *batch(), checkpointing)


def test_storages_are_counted_once_and_until_they_are_freed() -> None:
    live = LiveStorages()
    with live:
        live.mark("a")
        x = torch.zeros(100)
        y = x.view(10, 10)[2:]
        z = y + 1
        live.mark("b")
        del x, z
        y.add_(1)
        live.mark("c")
        del y
    assert replay(live.history()) == {
        "a": ({"temporaries": 720}, {"temporaries": 720}),
        "b": ({"temporaries": 720}, {"temporaries": 400}),
        "c": ({"temporaries": 400}, {"temporaries": 0}),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_full_fine_tuning_holds_what_adam_needs(dtype: torch.dtype) -> None:
    found, model = counted("full", dtype), tiny_llama()
    n, tensors = (
        total_parameters({k: tuple(p.shape) for k, p in model.named_parameters()}),
        len(list(model.parameters())),
    )
    half = dtype == torch.bfloat16
    at = found.find("tuning", "optimizer").peak
    assert at["gradients"] == 4 * n  # in bf16 those of the masters, for which the model's own have gone
    assert at["optimizer_state"] == 8 * n + 4 * tensors
    assert at["master_copies"] == (4 * n if half else 0)
    assert at["parameters"] == n * (2 if half else 4) + 2 * 8 * (2 if half else 4)  # rotary frequencies: 8, kept twice
    assert found.trained == {"tuning": n}
    assert found.find("tuning", "backward").end["gradients"] == n * (2 if half else 4)
    assert found.find("tuning", "optimizer").end["gradients"] == 0


@pytest.mark.parametrize("case", [name for name in CASES if name != "full"])
def test_sparse_methods_hold_gradients_and_moments_of_what_trains(case: str) -> None:
    found = counted(case)
    at = found.find("tuning", "optimizer").peak
    trained = found.trained["tuning"]
    numbers = 3 if case == "spiel" else 2  # an age besides the moments
    assert at["gradients"] == 4 * trained
    assert 0 <= at["optimizer_state"] - 4 * numbers * trained < 200  # step counters
    blocks = trained // 16**2 if case.startswith("smt") else 0  # row, column, and their columns together, on the device
    candidates = 4 * 4 * trained if case == "spiel" else 0  # index, step, sum, squares
    assert 16 * blocks <= at["method_state"] - candidates <= 24 * blocks
    full = counted("full").find("tuning", "forward")
    assert found.find("tuning", "forward").end["logits_loss"] <= full.end["logits_loss"]
    stages = {p.stage for p in found.phases}
    assert ("warmup" in stages) == case.startswith(("smt", "fish"))
    if case == "smt":
        dense = found.find("warmup", "optimizer").peak
        assert (
            dense["gradients"]
            == 4 * found.trained["warmup"]
            == counted("full").find("tuning", "optimizer").peak["gradients"]
        )
    if case in ("smt-frozen", "fish"):
        assert found.trained["warmup"] == found.find("warmup", "optimizer").peak["optimizer_state"] == 0


def test_saved_activations_are_those_that_autograd_saves() -> None:
    model = tiny_llama().train()
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # a freed address must not be used twice
        return tensor

    ids, labels = batch()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.model(input_ids=ids, use_cache=False)
    found = counted("full")
    assert sum(saved.values()) > 50_000
    # Beside the decoder's graph the account counts the labels, padded, and without padding with their places.
    assert ids.untyped_storage().data_ptr() in saved
    assert found.saved_activations() == sum(saved.values()) + 8 * (labels.numel() + 2 * int((labels != -100).sum()))


@pytest.mark.parametrize("case", ["full", "lora", "dora", "spiel"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_flops_are_torchs(case: str, checkpointing: bool) -> None:
    def fresh() -> tuple[Any, Method]:
        method = methods.build(case, CASES[case], None if case == "full" else 0.05, 0, 8)
        return tiny_llama(
            attn_implementation="eager"
        ).train(), method  # torch's counter leaves out the CPU's fused kernel

    ids, labels = batch()
    found = account(*fresh(), SETTINGS, ids, labels, checkpointing).flops["tuning"]
    model, method = fresh()
    if checkpointing:
        enable_checkpointing(model)
    method.attach(model)
    with FlopCounterMode(display=False) as counter:
        response_loss(model, Batch(ids, labels, 1, 1)).backward()
    assert counter.get_total_flops() == sum(found.values())
    assert (found["recomputation"] > 0) == checkpointing
    if case == "full":
        attention = 2 * 2 * 2 * BATCH * 4 * LENGTH * LENGTH * 16  # two layers, two products
        assert found["weight_gradient"] == found["forward"] - attention
        assert found["input_gradient"] == found["forward"] + attention


@pytest.mark.parametrize("case", CASES)
def test_weight_gradients_are_told_from_input_gradients_in_half_precision_too(case: str) -> None:
    assert counted(case, torch.bfloat16).flops == counted(case).flops


def test_checkpointing_keeps_little_and_restores_one_layer_at_a_time() -> None:
    plain, with_it = counted("full"), counted("full", checkpointing=True)
    assert with_it.saved_activations() < 0.3 * plain.saved_activations()
    assert plain.find("tuning", "backward").end == with_it.find("tuning", "backward").end
    assert with_it.find("tuning", "forward").peak["parameters"] == plain.find("tuning", "forward").peak["parameters"]


class Slices(Method):
    """One flat parameter outside the module tree; the model holds slices of it, with gradients in one flat buffer."""

    name, version, summary = "slices", 1, "for this test"

    def capacity(self, shapes: Shapes) -> Capacity:
        raise NotImplementedError

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        freeze(model)
        norms = [m for n, m in model.named_modules() if n.endswith("layernorm")]
        self.flat = nn.Parameter(torch.ones(64 * len(norms)))
        for norm, part in zip(norms, self.flat.data.chunk(len(norms))):
            norm.weight = nn.Parameter(part)
        self.parts = [norm.weight for norm in norms]
        self.kept = torch.zeros(1000)  # known to nobody but the method
        return [ParamGroup([self.flat])]

    def before_step(self, model: nn.Module, step: int) -> None:
        self.gradient = torch.zeros_like(self.flat)
        for part, view in zip(self.parts, self.gradient.chunk(len(self.parts))):
            part.grad = view

    def after_backward(self, model: nn.Module, step: int) -> None:
        self.flat.grad = self.gradient

    def merge(self, model: nn.Module) -> None:
        raise NotImplementedError


def test_bytes_go_by_storage_not_by_parameter() -> None:
    found = account(tiny_llama().train(), Slices(MethodConfig(), None, 0, 8), SETTINGS, *batch())
    base = sum(p.numel() * 4 for p in tiny_llama().parameters()) + 64
    at = found.find("tuning", "optimizer").peak
    numbers = 4 * 64
    assert found.trained == {"tuning": numbers}
    assert at["parameters"] == base  # the slices stand for the norms' old weights
    assert at["gradients"] == 4 * numbers
    assert at["optimizer_state"] == 2 * 4 * numbers + 4
    assert at["method_state"] == 4000
    assert found.flops["tuning"]["weight_gradient"] == 0


def test_masked_prompts_cost_no_logits() -> None:
    method = methods.build("full", {}, None, 0, 8)
    few = account(tiny_llama().train(), method, SETTINGS, *batch(masked=LENGTH - 2))
    many = counted("full")
    assert few.find("tuning", "forward").end["logits_loss"] < 0.3 * many.find("tuning", "forward").end["logits_loss"]


@pytest.mark.parametrize(("method", "imported"), [("spiel", False), ("lora", True)])
def test_a_library_is_imported_before_anything_is_counted_and_only_where_a_method_needs_it(
    method: str, imported: bool
) -> None:
    seen = f"""
import sys
from test_accountant import *
built = methods.build("{method}", CASES["{method}"], 0.05, 0, 8)
from smt_bench.measuring.accountant import Accountant
before = "peft" in sys.modules
Accountant(tiny_llama().train(), built, SETTINGS, *batch())
print(before, "peft" in sys.modules)
"""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", seen], env=os.environ | {"PYTHONPATH": paths}, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["False", str(imported)]


def test_an_account_survives_json_and_names_its_peak() -> None:
    found = counted("smt")
    values = found.to_dict()
    assert Account.from_dict(values) == found
    assert values["peak_at"] == "warmup optimizer"
    assert values["peak_bytes"] == sum(values["memory_bytes"]["warmup"]["optimizer"]["peak"].values())
    assert set(values["memory_bytes"]["tuning"]["forward"]["peak"]) == set(CATEGORIES)

"""Mixed precision: bf16 products everywhere, float32 in what trains, its gradients and its place in the key."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import small_tokenizer, tiny_llama
from labelled import labelled
from torch.utils._python_dispatch import TorchDispatchMode

from smt_bench import methods
from smt_bench.data.prompts import Example
from smt_bench.evaluation.heldout import response_loglik
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine.fits import Machine
from smt_bench.methods.base import OptimizerSettings
from smt_bench.models import precision, registry
from smt_bench.models.precision import attend, mixed
from smt_bench.plan.rows import DryPlanner
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.training.optimizer import TorchUpdater
from smt_bench.training.step import Step

aten = torch.ops.aten
CASES: dict[str, dict[str, Any]] = {
    "full": {},
    "smt": {"block_size": 16, "warmup_steps": 1, "warmup_trains": False},
    "spiel": {"update_every": 3, "estimate_steps": 2},
    "lora": {},
    "dora": {},
    "peft:ia3": {},
    "peft:oft": {},
}
MACHINES = [Machine((), 10**11), Machine((80_000_000_000,), 10**11)]


class Products(TorchDispatchMode):
    """Floating-point products of hidden states, by the type that goes in and the phase."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in (aten.mm, aten.addmm, aten.bmm):
            self.seen[args[-1].dtype] += 1
        return out


def trained(name: str, steps: int = 2) -> tuple[Any, Any, Products]:
    """Tuning steps in bf16, and what the forward passes multiplied."""
    model = tiny_llama().bfloat16().train()
    takes = methods.find(name).takes_fraction
    method = methods.build(name, CASES[name], 0.02 if takes else None, 0, 8)
    if method.warmup_steps:
        method.load_state_dict(
            {"observed": 1, "sums": {}, "selection": {"model.layers.0.self_attn.v_proj": [(0, 0), (1, 2)]}}
        )
        method.fraction = 2 * 256 / sum(p.numel() for p in model.parameters())
    updater = TorchUpdater(model, method, method.attach(model), OptimizerSettings(1e-2), 1.0)
    step = Step("tuning", model, method, updater)
    products = Products()
    loss = step.loss

    def seen(*args: Any) -> torch.Tensor:
        with products:
            return loss(*args)

    step.loss = seen  # type: ignore[method-assign]
    ids = torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(0))
    for number in range(2, 2 + steps):
        step.take(number, [labelled(ids)], 1.0)
    return model, updater, products


@pytest.mark.parametrize("name", CASES)
def test_in_bf16_every_forward_product_is_bf16_and_what_trains_is_float32(name: str) -> None:
    model, updater, products = trained(name)
    assert set(products.seen) == {torch.bfloat16} and products.seen[torch.bfloat16] > 10
    moved = [p for group in updater.optimizer.param_groups for p in group["params"]]
    assert {p.dtype for p in moved} == {torch.float32}
    assert {p.dtype for p in updater.params} == {torch.bfloat16 if name == "full" else torch.float32}
    assert len(updater._masters) == (len(updater.params) if name == "full" else 0)
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad}
    assert torch.bfloat16 in frozen or name == "full"


def test_in_float32_nothing_is_cast() -> None:
    model = tiny_llama()
    assert precision.half(model) is None
    with precision.mixed(model):
        assert not torch.is_autocast_enabled("cpu")
    with precision.mixed(model.bfloat16()):
        assert torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def test_judging_computes_as_training_does() -> None:
    """An unmerged adapter in float32 is seen through the same products: the two losses are one number."""
    model, updater, _ = trained("lora", steps=4)
    examples = [Example("what is it", "", "the answer is 4", "4")]
    tokenizer = small_tokenizer()
    scored = response_loglik(model, tokenizer, examples, "llm-adapters", 512, 4)
    from smt_bench.data.batches import collate
    from smt_bench.data.prompts import encode
    from smt_bench.training.loss import response_loss

    encoded = encode(examples[0], tokenizer, "llm-adapters", False, 512)
    model.eval()  # no dropout
    with torch.no_grad():
        loss = response_loss(model, collate([encoded], 0)).item()
    assert scored[0]["loglik"] == pytest.approx(-loss, rel=1e-6)


def gradients(case: str, dtype: torch.dtype) -> torch.Tensor:
    """Of what trains, from inputs and output gradients that are bf16 numbers."""
    from torch import nn

    from smt_bench.methods.deltas import SpielLinear
    from smt_bench.methods.smt.install import sparse_layers

    generator = torch.Generator().manual_seed(0)
    x, dy, weight = (
        torch.randn(shape, generator=generator).bfloat16().to(dtype) for shape in ((700, 64), (700, 48), (48, 64))
    )
    linear = nn.Linear(64, 48, bias=False).to(dtype).requires_grad_(False)
    linear.weight.data.copy_(weight)
    if case == "spiel":
        layer: Any = SpielLinear(linear, torch.randperm(48 * 64, generator=generator)[:500])
        layer(x).backward(dy)
        return layer.deltas.grad
    index, shape = ([(0, 0), (2, 3), (1, 0)], (16, 16)) if case == "blocks" else ([(0, 0), (1, 3), (0, 63)], (24, 1))
    layers, _ = sparse_layers({"a.q_proj": linear}, {"a.q_proj": index}, shape)
    layers["a.q_proj"](x).backward(dy)
    return layers["a.q_proj"].blocks.grad


@pytest.mark.parametrize("case", ["blocks", "channels", "spiel"])
def test_gradients_of_sparse_methods_are_not_rounded_on_their_way(case: str) -> None:
    exact, ours = gradients(case, torch.float64), gradients(case, torch.bfloat16)
    assert ours.dtype == torch.float32
    error = (ours.double() - exact).abs().max() / exact.abs().max()
    rounded = (exact.bfloat16().double() - exact).abs().max() / exact.abs().max()
    assert error < 1e-6 < 1e-3 < rounded


def run_of(name: str, model: str, here: Machine, **asked: Any) -> Run:
    planner = Planner(Request("plateau", model, preset="smoke", methods=(name,), **asked), here)
    planner.open()
    return Plateau().runs(planner)[0][0]


@pytest.mark.parametrize("name", ["full", "smt", "lora"])
def test_precision_is_a_choice_and_no_matter_of_the_machine(name: str) -> None:
    plain, with_gpu = (run_of(name, "tiny", here) for here in MACHINES)
    assert plain.key == with_gpu.key and plain.train.precision == "fp32"
    assert "half" not in plain.to_dict()["method"], "keys of float32 stay"
    asked = [run_of(name, "tiny", here, precision="bf16") for here in MACHINES]
    assert asked[0].key == asked[1].key != plain.key and asked[0].train.precision == "bf16"
    assert asked[0].to_dict()["method"]["half"] == methods.build(name, asked[0].method.config, 0.02, 0, 8).half
    assert Run.from_dict(asked[0].to_dict()) == asked[0]
    with pytest.raises(ValueError, match="--precision fp16"):
        Request("plateau", "tiny", precision="fp16")


def test_the_default_is_the_models(tmp_path: Path) -> None:
    found = {}
    for name in registry.REGISTRY:
        planner = DryPlanner(Request("plateau", name), MACHINES[1])
        found[name] = planner.precision
        assert registry.REGISTRY[name].precision == precision.default(planner.inventory.total), "as its size says"
    assert found["tiny"] == found["smollm2-135m"] == "fp32" and found["llama-7b"] == found["llama3-8b"] == "bf16"


def test_every_method_says_how_it_trains_in_bf16() -> None:
    said = {name: methods.build(name, config, 0.02, 0, 8).half for name, config in CASES.items()}
    assert said["full"] in methods.build("smt", {"warmup_steps": 1}, 0.02, 0, 8).half, "its warm-up is full fine-tuning"
    assert said["full"] not in said["smt"], "a frozen one is not"
    assert len({said["lora"], said["dora"], said["peft:oft"]}) == 1
    assert len({said["full"], said["smt"], said["spiel"], said["lora"]}) == 4


def test_attention_on_a_cpu_is_by_products_in_bf16_over_short_sequences_alone() -> None:
    def chosen(dtype: torch.dtype, length: int, usual: str = "sdpa") -> str:
        model = tiny_llama().to(dtype)
        model.set_attn_implementation(usual)
        attend(model, length)
        return str(model.config._attn_implementation)

    assert chosen(torch.bfloat16, 384) == "eager" and chosen(torch.bfloat16, 385) == "sdpa"
    assert chosen(torch.float32, 8) == "sdpa" and chosen(torch.bfloat16, 385, "eager") == "eager"


def test_both_ways_of_attention_give_one_loss() -> None:
    """In bf16 with padding: losses and gradients of one batch agree as far as bf16 does."""
    found = {}
    for length in (8, 1024):
        model = tiny_llama().to(torch.bfloat16)
        attend(model, length)
        ids = torch.randint(3, 300, (4, 24), generator=torch.Generator().manual_seed(1))
        with mixed(model):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        found[length] = (loss.item(), model.model.layers[0].self_attn.v_proj.weight.grad.float())
    assert found[8][0] == pytest.approx(found[1024][0], rel=2e-3)
    one, other = found[8][1], found[1024][1]
    assert (one - other).norm() < 0.03 * other.norm() and other.norm() > 0

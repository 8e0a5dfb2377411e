"""The Triton kernels without a GPU: one rule, a recorded way out, the same numbers in the interpreter, a compiler's yes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from helpers import ROOT

from smt_bench import methods
from smt_bench.methods import guarded
from smt_bench.methods.smt import gradients
from smt_bench.methods.smt.gradients import FUSED, Pairs

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
GPU = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if there were an A100 with triton."""
    monkeypatch.setattr(guarded, "_capable", lambda device: True)
    monkeypatch.setattr(guarded, "_installed", lambda: True)
    monkeypatch.setattr(guarded, "left", {})
    gradients.tried.cache_clear()
    yield
    gradients.tried.cache_clear()


def test_the_rule_looks_at_device_and_dtype_and_at_nothing_else(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.random.get_rng_state()
    assert [gradients.way(GPU, t) for t in (torch.bfloat16, torch.float16)] == ["fused", "fused"]
    assert gradients.way(GPU, torch.float32) == gradients.way(torch.device("cpu"), torch.bfloat16) == "per_block"
    monkeypatch.setattr(guarded, "_capable", lambda device: False)
    assert gradients.way(GPU, torch.bfloat16) == "per_block"
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0), (12, 0)])
def test_compute_capability_decides(capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    guarded._capable.cache_clear()
    assert guarded._capable(GPU) == (capability >= (8, 0))
    guarded._capable.cache_clear()


def _pretend(monkeypatch: pytest.MonkeyPatch, fused: object) -> None:
    """The rule names the kernel for the CPU, and it is this function."""
    monkeypatch.setattr(guarded, "fits", lambda device: True)
    monkeypatch.setattr(gradients, "fused", fused)


def sides() -> tuple[torch.Tensor, torch.Tensor, Pairs]:
    generator = torch.Generator().manual_seed(0)
    dy, kept = (torch.randn(9, 8, generator=generator).bfloat16() for _ in range(2))
    return dy, kept, Pairs([(0, 1), (1, 0)], dy.device)


def test_a_kernel_that_fails_ends_no_backward_pass_and_is_recorded(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fails(*_: object) -> torch.Tensor:
        calls.append(1)
        raise RuntimeError("PassManager::run failed\nand a page of compiler output")

    _pretend(monkeypatch, fails)
    dy, kept, pairs = sides()
    expected = gradients.per_block(dy, kept, pairs, 4)
    for _ in range(3):
        assert torch.equal(gradients.block_gradients(dy, kept, pairs, 4), expected)
    assert len(calls) == 1, "left for good"
    assert guarded.left == {FUSED: "RuntimeError: PassManager::run failed"}
    ran = methods.build("smt", {"warmup_steps": 1}, 0.01, 0, 5).ran()
    assert ran["kernels_left"] == guarded.left


def test_a_kernel_with_wrong_numbers_is_left_before_training(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, lambda dy, kept, pairs, side: gradients.per_block(dy, kept, pairs, side) + 1)
    gradients.tried(torch.device("cpu"), torch.bfloat16, 4)
    assert guarded.left == {FUSED: "its numbers were wrong when it was tried"}
    dy, kept, pairs = sides()
    assert torch.equal(gradients.block_gradients(dy, kept, pairs, 4), gradients.per_block(dy, kept, pairs, 4))


def test_a_good_kernel_is_kept(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, gradients.per_block)
    gradients.tried(torch.device("cpu"), torch.bfloat16, 4)
    assert guarded.left == {} and gradients.way(torch.device("cpu"), torch.bfloat16) == "fused"


def test_running_out_of_memory_is_no_reason_to_leave_a_kernel(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    _pretend(monkeypatch, full)
    dy, kept, pairs = sides()
    with pytest.raises(torch.OutOfMemoryError):
        gradients.block_gradients(dy, kept, pairs, 4)
    assert guarded.left == {}


def in_the_interpreter(code: str) -> None:
    places = [str(ROOT / "tests" / "methods"), str(ROOT / "tests"), str(ROOT)]
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout == "same numbers\n", done.stderr


@needs_triton
def test_block_gradients_in_the_interpreter() -> None:
    """Sides that no tile divides, tokens that no step divides. The interpreter multiplies bfloat16 wrongly (bits as integers)."""
    in_the_interpreter("""
import torch
from smt_bench.methods.smt.gradients import fused
from test_smt_cost import PAIRS, naive, sides

for side, tokens in [(16, 40), (12, 33), (96, 7)]:
    for dtype in (torch.float32, torch.float16):
        dy, kept = sides(side, tokens, dtype)
        out = fused(dy, kept, PAIRS, side)
        assert out.dtype == torch.float32
        expected = naive(dy.double(), kept.double(), side)  # of halves too: their products are exact, sums are not rounded
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5 * tokens**0.5)
print("same numbers")
""")


@needs_triton
def test_both_ways_back_in_the_interpreter() -> None:
    """Against layer by layer, bit by bit. The interpreter cuts bf16 off where hardware rounds, so that bf16 takes exact sums."""
    in_the_interpreter("""
import torch
from torch import nn
from smt_bench.methods.deltas import SpielLinear
from smt_bench.methods.flat import Flat, place_of
from smt_bench.methods.smt.install import WriteBack, sparse_layers
from smt_bench.methods.spiel.write import WriteBack as SpielWriteBack

def check(layers, launch, whole):
    draws = torch.randint(-32, 32, whole.shape).div(8)
    whole.data.copy_(draws if layers[0].weight.dtype == torch.bfloat16 else torch.randn_like(draws))
    start = [layer.weight.clone() for layer in layers]
    for layer in layers:
        layer.write_back()
    expected = [layer.weight.clone() for layer in layers]
    for layer, weight in zip(layers, start):
        layer.weight.data.copy_(weight)
    launch()
    assert all(torch.equal(layer.weight, right) for layer, right in zip(layers, expected))
    assert not any(torch.equal(a, b) for a, b in zip(start, expected))

def linear(dtype):
    made = nn.Linear(64, 48, bias=False).requires_grad_(False)
    made.weight.data.copy_(torch.randint(-8, 8, made.weight.shape).div(8))
    return made.to(dtype)

blocks = {"a.q_proj": [(0, 0), (2, 1)], "a.k_proj": [(1, 3)], "b.v_proj": [(0, 2), (2, 2), (1, 0)]}
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    for shape in ((16, 16), (8, 1)):
        layers, flat = sparse_layers({name: linear(dtype) for name in blocks}, blocks, shape)
        back = WriteBack(layers, flat)
        check(back.layers, lambda: back._launch(back.layers), flat.parameters[0])
    counts, flat = (1500, 7, 300), Flat({(torch.device("cpu"), torch.float32): 1807})
    wrapped = []
    for count in counts:
        one = linear(dtype)
        wrapped.append(SpielLinear(one, torch.randperm(48 * 64)[:count], deltas_D=flat.hand_out(place_of(one.weight), count)))
    spiel = SpielWriteBack(wrapped, flat)
    check(wrapped, lambda: spiel._launch(0), flat.parameters[0])
print("same numbers")
""")


@needs_triton
def test_gradients_at_deltas_in_the_interpreter() -> None:
    """More tokens than a step of the loop, none, one; more places than a program takes; any order; against float64."""
    in_the_interpreter("""
import torch
from smt_bench.methods.sampled import fused

for outputs, inputs, tokens, count in [(24, 40, 70, 300), (7, 33, 1, 5), (16, 16, 300, 33)]:
    for dtype in (torch.float32, torch.float16, torch.float64):
        dy, x = torch.randn(tokens, outputs).to(dtype), torch.randn(tokens, inputs).to(dtype)
        for index in (torch.int32, torch.int64):
            places = torch.randperm(outputs * inputs)[:count].to(index)
            out = fused(dy, x, places)
            assert out.dtype == torch.promote_types(dtype, torch.float32)
            expected = (dy.double().t() @ x.double()).flatten()[places.long()]
            torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5 * tokens**0.5)
print("same numbers")
""")


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernels_compile_for_gpus(capability: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from smt_bench.methods.smt import triton_kernel as smt
    from smt_bench.methods.spiel import triton_kernel as spiel

    bf16 = smt.TYPES[torch.bfloat16]
    strides = dict.fromkeys(("tokens", "dy_stride", "kept_stride"), "i32")
    sizes = dict.fromkeys(("count", "tokens", "width"), "i32")
    kernels = [
        (smt._gradients_kernel, {"dy": "*bf16", "kept": "*bf16", "pairs": "*i32", "out": "*fp32", **strides},
         {"SIDE": 256, "TILE": 64, "STEP": smt.TOKENS, "EXACT": True}),
        (smt._write_kernel, {"blocks": "*fp32", "table": "*i64"}, {"SIZE": 65536, "WIDTH": 256, "TYPE": bf16, "PIECE": 1024}),
        (spiel._write_kernel, {"table": "*i64", "deltas": "*fp32", "indices": "*i32", "base": "*bf16"},
         {"TYPE": bf16, "PIECE": 1024}),
        (spiel._products_kernel, {"dy": "*bf16", "x": "*bf16", "places": "*i32", "out": "*fp32", **sizes},
         {"SUM": spiel.TYPES[torch.float32], "PLACES": spiel.PLACES, "TOKENS": spiel.TOKENS}),
    ]  # fmt: skip
    for kernel, arguments, constants in kernels:
        source = ASTSource(
            fn=kernel, signature={**arguments, **dict.fromkeys(constants, "constexpr")}, constexprs=constants
        )
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert made.asm["cubin"]
        if kernel is smt._gradients_kernel:
            assert "mma" in made.asm["ptx"], "bf16 products on tensor cores"

"""Gradients at the deltas alone: the dense gradient's entries, by a fixed rule, and counted as what they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spiel_steps import LR, batches, llama, train
from torch._subclasses.fake_tensor import FakeTensorMode

from smt_bench import methods
from smt_bench.measuring.flops import count_flops
from smt_bench.methods import guarded, products, sampled
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.spiel.method import Spiel, SpielConfig

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize(("outputs", "inputs", "tokens", "count"), [(24, 40, 70, 300), (7, 33, 1, 5), (64, 16, 300, 1)])
def test_equal_to_a_loop_in_float64(
    dtype: torch.dtype, index: torch.dtype, outputs: int, inputs: int, tokens: int, count: int
) -> None:
    generator = torch.Generator().manual_seed(outputs)
    dy, x = (torch.randn(tokens, n, generator=generator).to(dtype) for n in (outputs, inputs))
    places = torch.randperm(outputs * inputs, generator=generator)[:count].to(index)  # not sorted
    columns = [(place // inputs, place % inputs) for place in places.tolist()]
    exact = torch.stack([(dy[:, r].double() * x[:, c].double()).sum() for r, c in columns])
    for way in (sampled.by_row, sampled.gathered):
        got = way(dy, x, places)
        assert got.dtype == torch.promote_types(dtype, torch.float32)
        bound = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(got.double(), exact, rtol=bound, atol=bound * tokens**0.5)


def test_strided_inputs_are_read_as_they_are() -> None:
    dy, x = torch.randn(9, 12)[:, ::2], torch.randn(9, 16)[:, 1::2]
    places = torch.tensor([47, 3, 0, 12], dtype=torch.int32)
    torch.testing.assert_close(sampled.by_row(dy, x, places), (dy.t() @ x).flatten()[places.long()])


def test_the_rule_looks_at_device_density_and_shape_and_at_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, narrow = (200, 500), (sampled.NARROW - 1, 1000)
    least = round(sampled.LIMITS["cpu"] * 100_000)
    assert sampled.way(CPU, least, shape) == "by_row" and sampled.way(CPU, least + 1, shape) == "gathered"
    assert sampled.way(CPU, 1, narrow) == "gathered" == sampled.way(CPU, 1, narrow[::-1])
    with monkeypatch.context() as pretend:
        pretend.setattr(guarded, "fits", lambda device: True)
        pretend.setattr(guarded, "left", {})
        assert sampled.way(GPU, 500, shape) == "fused" and sampled.way(GPU, 501, shape) == "gathered"
        guarded.leave(sampled.FUSED, "as a test")
        assert sampled.way(GPU, 500, shape) == "gathered"
    monkeypatch.setattr(products, "ROUNDING", set())  # as in a dry run for a GPU
    assert sampled.way(CPU, 1, shape) == "gathered" == sampled.way(torch.device("meta"), 1, shape)


def test_a_kernel_that_fails_leaves_the_dense_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> torch.Tensor:
        raise RuntimeError("no such architecture")

    monkeypatch.setattr(sampled, "way", lambda *_: "fused")
    monkeypatch.setattr(sampled, "fused", fails)
    monkeypatch.setattr(guarded, "left", {})
    assert sampled.product_at(torch.ones(3, 4), torch.ones(3, 4), torch.tensor([1])) is None
    method = methods.build("spiel", {"gradient": "sampled"}, 0.01, 0, 100)
    assert method.ran() == {"kernels_left": {sampled.FUSED: "RuntimeError: no such architecture"}}


def test_operations_are_counted_and_dry_runs_go_the_same_way() -> None:
    dy, x, places = torch.randn(9, 6), torch.randn(9, 8), torch.tensor([5, 40, 11], dtype=torch.int32)
    with count_flops() as so_far:
        sampled.by_row(dy, x, places)
    assert so_far() == 2 * 9 * 3
    with FakeTensorMode() as fake:
        made = sampled.by_row(*(fake.from_tensor(t) for t in (dy, x, places)))
        assert made.shape == (3,) and made.dtype == torch.float32


@pytest.mark.parametrize("name", ["spiel", "spiel-ma"])
def test_training_in_float64_takes_the_same_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over updates and estimation phases: the same indices, deltas equal to rounding; dense gradients only where they must be."""
    made: dict[Any, Any] = {}
    for gradient in ("gathered", "sampled"):
        model = llama(torch.float64)
        config = {"update_every": 4, "estimate_steps": 2, "gradient": gradient}
        method = methods.build(name, config, 0.004, 3, 14)
        assert isinstance(method, Spiel)
        monkeypatch.setattr(sampled, "NARROW", 1)  # the model is small
        dense: list[int] = []
        monkeypatch.setattr(
            "smt_bench.methods.deltas.product", lambda *a, d=dense: (d.append(1), products.product(*a))[1]
        )
        groups = [{"params": g.params, "lr": LR, "weight_decay": g.weight_decay} for g in method.attach(model)]
        optimizer = method.optimizer(groups, OptimizerSettings(lr=LR))
        train(model, method, optimizer, batches(14))
        made[gradient] = {
            n: (layer.indices.clone(), layer.deltas.detach().clone()) for n, layer in method.layers.items()
        }
        made[gradient, "dense"] = len(dense)
    layers, steps = len(made["gathered"]), 14
    assert made["gathered", "dense"] == layers * steps
    # AG looks at all of a gradient in the first step of every phase: updates after steps 2, 4, 8 and 12, phases of two steps.
    assert made["sampled", "dense"] == (layers * 4 if name == "spiel" else 0)
    for layer, (indices, deltas) in made["gathered"].items():
        assert torch.equal(indices, made["sampled"][layer][0])
        torch.testing.assert_close(deltas, made["sampled"][layer][1], rtol=1e-9, atol=1e-12)


def test_the_choice_is_part_of_the_question_and_the_usual_one_is_not() -> None:
    assert "gradient" not in SpielConfig().to_dict()
    assert SpielConfig.from_dict({"gradient": "sampled"}).to_dict()["gradient"] == "sampled"
    with pytest.raises(ValueError, match="gradient"):
        SpielConfig.from_dict({"gradient": "fast"})

"""The check around every merge: rounding passes, another model does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import tiny_llama
from torch import nn

from smt_bench import methods
from smt_bench.methods.full import Full
from smt_bench.models.merging import TOLERANCE, merge


def trained(name: str, config: dict[str, Any], dtype: torch.dtype, **sizes: Any) -> tuple[Any, nn.Module]:
    """A method attached to a small LLaMA, its trainables moved as training moves them."""
    model = tiny_llama(**sizes).to(dtype)
    method = methods.build(name, config, 0.05, 0, 10)
    groups = method.attach(model)
    generator = torch.Generator().manual_seed(1)
    for parameter in (p for group in groups for p in group.params):
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return method, model


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["lora", "dora"])
def test_rounding_passes_and_is_recorded(name: str, dtype: torch.dtype) -> None:
    method, model = trained(name, {}, dtype)
    assert model.training
    found = merge(method, model)
    assert found["tolerance"] == TOLERANCE[dtype]
    assert 0 < found["difference"] < TOLERANCE[dtype] / 2  # type: ignore[operator]
    assert model.training and not any("lora" in n for n, _ in model.named_parameters())


def test_a_merge_that_loses_a_part_of_the_update_fails() -> None:
    class Forgetful(Full):
        name = "forgetful"

        def merge(self, model: nn.Module) -> None:
            model.get_parameter("model.layers.1.mlp.up_proj.weight").data *= 1.01

    with pytest.raises(RuntimeError, match="forgetful: merging changed the model"):
        merge(Forgetful(Full.Config(), None, 0, 1), tiny_llama())


def test_a_model_that_diverged_is_left_to_the_judge() -> None:
    model = tiny_llama()
    model.lm_head.weight.data[0, 0] = float("nan")
    assert merge(Full(Full.Config(), None, 0, 1), model)["difference"] is None

"""Master copies are updated a chunk at a time: the same bits as all at once, and only a chunk's gradients in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import tiny_llama

from smt_bench import methods
from smt_bench.data.batches import Batch
from smt_bench.machine import states
from smt_bench.measuring.accountant import Accountant
from smt_bench.methods.base import Method, OptimizerSettings, ParamGroup
from smt_bench.training.optimizer import TorchUpdater
from smt_bench.training.step import Step

SETTINGS = OptimizerSettings(1e-3, weight_decay=0.1)


def batch() -> Batch:
    ids = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(0))
    return Batch(ids, ids.roll(-1, 1), 24, 24)


def after_steps(case: str, steps: int = 3) -> dict[str, torch.Tensor]:
    model = tiny_llama().to(torch.bfloat16).train()
    config: dict[str, Any] = {} if case == "full" else {"block_size": 16, "warmup_steps": 4}
    method = methods.build(case.split()[0], config, None if case == "full" else 0.05, 0, 8)
    groups = method.attach(model) if case == "full" else method.warmup(model)
    if case == "smt and a float32 number":  # what is updated without a copy, beside what has one
        extra = torch.nn.Parameter(torch.ones(3))
        model.register_parameter("extra", extra)
        groups.append(ParamGroup([extra]))
    updater = TorchUpdater(model, method, groups, SETTINGS, 1.0)
    step = Step("tuning" if case == "full" else "warmup", model, method, updater)
    for number in range(1, steps + 1):
        if "extra" in dict(model.named_parameters()):
            model.extra.grad = torch.full((3,), 0.01)
        step.take(number, [batch()], 1.0)
    kept = updater.optimizer.state_dict()["state"]
    moments = {f"{i} {name}": value for i, one in kept.items() for name, value in one.items()}
    return {k: v.clone() for k, v in model.state_dict().items()} | moments


@pytest.mark.parametrize("case", ["full", "smt", "smt and a float32 number"])
@pytest.mark.parametrize("chunk", [1, 5000, 20_000])
def test_chunks_change_no_bit(case: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = after_steps(case)
    monkeypatch.setattr(states, "CHUNK", chunk)
    apart = after_steps(case)
    assert whole.keys() == apart.keys() and all(torch.equal(whole[k], apart[k]) for k in whole)


def peak(monkeypatch: pytest.MonkeyPatch, chunk: int) -> dict[str, int]:
    monkeypatch.setattr(states, "CHUNK", chunk)
    model, one = tiny_llama().to(torch.bfloat16).train(), batch()
    method: Method = methods.build("full", {}, None, 0, 8)
    return Accountant(model, method, SETTINGS, one.ids_BT, one.labels_BT).whole().find("tuning", "optimizer").peak


def test_only_a_chunk_has_gradients_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = sum(p.numel() for p in tiny_llama().parameters())
    largest = max(p.numel() for p in tiny_llama().parameters())
    whole, apart = peak(monkeypatch, 10**9), peak(monkeypatch, 1)
    assert whole["gradients"] == 4 * numbers
    assert apart["gradients"] <= 2 * numbers + 4 * largest < whole["gradients"]
    assert {k: v for k, v in whole.items() if k in ("parameters", "master_copies", "optimizer_state")} == {
        k: v for k, v in apart.items() if k in ("parameters", "master_copies", "optimizer_state")
    }

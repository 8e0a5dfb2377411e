"""Results known from shapes are torch's own: bytes, aliases and all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import tiny_llama

from smt_bench import methods
from smt_bench.plan import shapes
from smt_bench.plan.dry import Workload, dry_run
from smt_bench.plan.fakes import Fakes


def told(tensor: torch.Tensor) -> tuple[Any, ...]:
    storage = tensor.untyped_storage()
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset(), storage.nbytes(), tensor.device


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.t(),
        lambda x: x.view(-1)[3:9].view(2, 3),
        lambda x: torch.ops.aten._unsafe_view(x, [48]),
        lambda x: x.mul_(2.0),
        lambda x: x * 2,
        lambda x: (x > 0) * 1,
        lambda x: x.split(2)[1],
        lambda x: torch.ops.aten.native_dropout(x, 0.5, True)[1],
        lambda x: x.expand(3, 6, 8),
        lambda x: x.to(torch.float64),
        lambda x: torch.cat([x, x.t().reshape(6, 8)]),
        lambda x: x[torch.tensor([0, 2])],
    ],
)
def test_the_second_result_is_as_the_first(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    monkeypatch.setattr(shapes, "_known", {})
    fakes = Fakes()
    first, second = (fakes.empty((6, 8), torch.float32) for _ in range(2))
    with fakes:
        one, two = work(first), work(second)
    assert told(one) == told(two) and type(one) is type(two)
    aliases = [out.untyped_storage()._cdata == x.untyped_storage()._cdata for out, x in ((one, first), (two, second))]
    assert aliases[0] == aliases[1] and (one is first) == (two is second)


@pytest.mark.parametrize(
    ("name", "config", "fraction"),
    [("full", {}, None), ("smt", {"block_size": 16, "warmup_steps": 2}, 0.05), ("spiel", {}, 0.05), ("lora", {}, 0.05)],
)
def test_a_dry_run_is_the_same_with_and_without(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, name: str, config: dict[str, Any], fraction: float | None
) -> None:
    made = tiny_llama().config
    made.architectures = ["LlamaForCausalLM"]
    made.save_pretrained(tmp_path)
    work = Workload(str(tmp_path), 2, 12)

    def run() -> dict[str, Any]:
        return dry_run(work, methods.build(name, config, fraction, 0, 8), {}, "").to_dict()

    quick = run()
    monkeypatch.setattr(shapes.Shapes, "run", lambda self, func, args, kwargs, slow: slow())
    assert quick == run()

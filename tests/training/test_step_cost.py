"""What a step asks of a device, counted: operations, waits, and tensors that come from Python.

On a GPU every operation is a launch, every number read in Python a wait, and every tensor made of Python numbers a copy for which
the process waits. All three are seen by a dispatch mode on the CPU as well.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from helpers import tiny_llama
from torch.utils._python_dispatch import TorchDispatchMode

from smt_bench import methods
from smt_bench.data.batches import Batch, collate
from smt_bench.data.prompts import IGNORED, Encoded
from smt_bench.methods.base import OptimizerSettings
from smt_bench.training.optimizer import TorchUpdater
from smt_bench.training.step import PATIENCE, Step

aten = torch.ops.aten
LAYERS = 4
CONFIGS: dict[str, dict[str, Any]] = {
    "smt": {"block_size": 16, "warmup_steps": 1},
    "spiel": {"update_every": 4, "estimate_steps": 2},
}
BLOCKS = {
    f"model.layers.{i}.self_attn.{p}_proj": [(r, c) for r in range(2) for c in range(3)]
    for i in range(LAYERS)
    for p in "qkv"
}
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "_unique2")
# transformers looks whether positions are of several sequences packed into one, at the start of every forward pass.
TRANSFORMERS = 1


class Seen(TorchDispatchMode):
    """Counts."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.waits, self.from_python = 0, Counter[str](), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        packet = func._overloadpacket
        name = packet.__name__
        if name in READS:
            self.waits[name] += 1
        elif packet in INDEXED and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self.waits["mask"] += 1  # how many it picks has to be known
        elif name in ("lift_fresh", "lift"):
            self.from_python += 1
        elif not func.is_view and name not in ("detach", "promote_types"):
            self.operations += 1
        return func(*args, **(kwargs or {}))


def batch() -> Batch:
    return collate([Encoded(list(range(1, 13)), [IGNORED] * 6 + list(range(7, 13)))] * 4, 0)


def seen(name: str, dtype: torch.dtype, parts: int = 1, number: int = 9) -> tuple[Seen, Step]:
    """One tuning step, which is not the first."""
    model = tiny_llama(num_hidden_layers=LAYERS).to(dtype).train()
    method = methods.build(name, CONFIGS.get(name, {}), None if name == "full" else 0.05, 0, 40)
    if method.warmup_steps:
        method.load_state_dict({"observed": 1, "sums": {}, "selection": BLOCKS})
    settings = OptimizerSettings(1e-3, fused=True)  # as on a GPU
    step = Step("tuning", model, method, TorchUpdater(model, method, method.attach(model), settings, 1.0))
    given = [batch()] * parts
    step.take(number - 1, given, 1.0)
    with (counted := Seen()), pytest.MonkeyPatch.context() as patch:
        plain = torch.Tensor.tolist

        def tolist(tensor: torch.Tensor) -> Any:  # not an operation, and as much of a wait
            counted.waits["tolist"] += 1
            return plain(tensor)

        patch.setattr(torch.Tensor, "tolist", tolist)
        step.take(number, given, 1.0)
    return counted, step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["full", "smt", "spiel", "lora", "dora"])
def test_a_step_waits_for_losses_and_norm_only_and_brings_nothing_along(name: str, dtype: torch.dtype) -> None:
    once, _ = seen(name, dtype)
    assert once.waits == {"_local_scalar_dense": 2 + TRANSFORMERS} and once.from_python == 0
    thrice, _ = seen(name, dtype, parts=3)
    # The losses of all micro-batches are read together.
    assert thrice.waits == {"_local_scalar_dense": 1 + 3 * TRANSFORMERS, "tolist": 1} and thrice.from_python == 0


def test_an_estimation_step_waits_no_longer() -> None:
    for number in (7, 8):  # updates come every 4 steps, estimates are of the 2 before
        counted, step = seen("spiel", torch.float32, number=number)
        assert step.method.phase(number)  # type: ignore[attr-defined]
        assert counted.waits == {"_local_scalar_dense": 2 + TRANSFORMERS} and counted.from_python == 0


def test_operations_of_the_sparse_methods() -> None:
    """By what they add to a step of full fine-tuning, whose weight gradients they make, or make in part."""
    full = seen("full", torch.float32)[0].operations
    matrices = 7 * LAYERS
    spiel, step = seen("spiel", torch.float32)
    written = 6 * matrices  # layer by layer on the CPU; one launch on a GPU, see `methods.guarded`
    # A gather, and its sum with what is there already, per matrix; an update of one tensor, in some 20 operations.
    assert spiel.operations - full <= 2 * matrices + written + 20
    smt = seen("smt", torch.float32)[0].operations
    blocks, layers = sum(map(len, BLOCKS.values())), len(BLOCKS)
    # A product per block (one launch per layer on a GPU), a sum per layer, kept columns per input, and the way back.
    assert smt - full <= blocks + 4 * layers + LAYERS + 10
    assert sum(len(group["params"]) for group in step.updater.optimizer.param_groups) == 1  # type: ignore[union-attr]


def test_a_layer_that_no_gradient_reaches_is_found_among_the_slices_of_one_tensor() -> None:
    model = tiny_llama(num_hidden_layers=LAYERS).train()
    method = methods.build("spiel", CONFIGS["spiel"], 0.05, 0, 40)
    updater = TorchUpdater(model, method, method.attach(model), OptimizerSettings(1e-3), 1.0)
    lost, other = (model.get_submodule(f"model.layers.{n}.self_attn.v_proj") for n in (2, 3))
    lost.forward = other.forward  # type: ignore[method-assign]  # it takes no part
    step = Step("tuning", model, method, updater)
    for number in range(1, PATIENCE):
        step.take(number, [batch()], 1.0)
    with pytest.raises(
        ValueError, match="spiel: no gradient reached model.layers.2.self_attn.v_proj.deltas in 5 steps"
    ):
        step.take(PATIENCE, [batch()], 1.0)
    assert not lost.deltas.any() and other.deltas.any()

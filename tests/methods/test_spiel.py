"""SpIEL-AG against a naive dense reimplementation, and the invariants of its bookkeeping."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from spiel_steps import LR, batches, llama, one_step, shapes, start, state_of, train
from torch import nn

from smt_bench.methods.modules import apportion
from smt_bench.methods.spiel.method import Spiel, SpielConfig
from smt_bench.methods.spiel.selection import is_update, random_indices, replaced

pytestmark = pytest.mark.usefixtures("one_thread")


class Naive:
    """SpIEL-AG with everything dense and one weight at a time: gradients and Adam state of all weights, as lists."""

    def __init__(self, model: Any, active: dict[str, list[int]], steps: int, every: int, phase: int) -> None:
        self.model, self.steps, self.phase = model, steps, phase
        self.updates = [u for u in range(1, steps) if u == phase or (u > phase and u % every == 0)]
        self.weights = {name: model.get_parameter(f"{name}.weight") for name in active}
        self.pretrained = {n: w.detach().clone().flatten() for n, w in self.weights.items()}
        self.active = {n: set(i) for n, i in active.items()}
        zeros = {n: [0.0] * len(w) for n, w in self.pretrained.items()}
        self.delta, self.mean, self.square, self.age = (copy.deepcopy(zeros) for _ in range(4))
        self.history: dict[str, list[list[float]]] = {n: [] for n in active}
        self.candidates: dict[str, list[int]] = {}

    def step(self, ids: torch.Tensor, t: int, decay: float, rate: float) -> None:
        beta1, beta2 = 0.9, 0.999
        self.model.zero_grad()
        self.model(input_ids=ids, labels=ids).loss.backward()
        for n, weight in self.weights.items():
            grad = weight.grad.flatten().tolist()
            delta, mean, square, age = self.delta[n], self.mean[n], self.square[n], self.age[n]
            if t + self.phase - 1 in self.updates:
                self.history[n] = []
                order = sorted(range(len(grad)), key=lambda i: -abs(grad[i]))  # noqa: B023 - used at once
                self.candidates[n] = [i for i in order if i not in self.active[n]][: len(self.active[n])]
            self.history[n].append(grad)
            for i in self.active[n]:
                age[i] += 1
                mean[i] = beta1 * mean[i] + (1 - beta1) * grad[i]
                square[i] = beta2 * square[i] + (1 - beta2) * grad[i] ** 2
                m, v = mean[i] / (1 - beta1 ** age[i]), square[i] / (1 - beta2 ** age[i])
                delta[i] = delta[i] * (1 - LR * decay) - LR * m / (v**0.5 + 1e-8)
            if t in self.updates:
                count = len(self.active[n])
                k = count if t == self.phase else int(rate * (self.steps - t) / self.steps * count)
                average = {i: sum(g[i] for g in self.history[n]) / self.phase for i in self.candidates[n]}
                drop = sorted(self.active[n], key=lambda i: abs(delta[i]))[:k]  # noqa: B023
                grow = sorted(average, key=lambda i: -abs(average[i]))[:k]  # noqa: B023
                for i in drop:
                    delta[i] = 0.0
                for i in grow:
                    mean[i] = average[i] * (1 - beta1**self.phase)
                    square[i] = sum(g[i] ** 2 for g in self.history[n]) / self.phase * (1 - beta2**self.phase)
                    age[i] = self.phase
                self.active[n] = (self.active[n] - set(drop)) | set(grow)
            with torch.no_grad():
                weight.copy_((self.pretrained[n] + torch.tensor(delta, dtype=torch.float64)).view_as(weight))


def test_equals_naive_dense_version():
    steps, decay = 13, 0.5
    model = llama(torch.float64)
    dense = copy.deepcopy(model)
    method, optimizer = start(model, steps=steps, weight_decay=decay)
    naive = Naive(dense, {n: layer.indices.tolist() for n, layer in method.layers.items()}, steps, 4, 2)
    moved = 0
    for t, ids in enumerate(batches(steps), 1):
        before = {n: set(layer.indices.tolist()) for n, layer in method.layers.items()}
        one_step(model, method, optimizer, ids, t)
        naive.step(ids, t, decay, rate=0.5)
        for n, layer in method.layers.items():
            indices = layer.indices.long()
            assert set(indices.tolist()) == naive.active[n] and len(indices) == len(naive.active[n])
            moved += len(set(indices.tolist()) - before[n])
            state = state_of(method, optimizer, layer)
            for ours, theirs in (
                (layer.deltas.detach(), naive.delta), (state["exp_avg"], naive.mean),
                (state["exp_avg_sq"], naive.square), (state["age"], naive.age),
            ):  # fmt: skip
                expected = torch.tensor(theirs[n], dtype=torch.float64)[indices]
                torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(layer.weight.detach(), naive.weights[n].detach(), rtol=1e-6, atol=1e-9)
    described = method.describe()
    assert described["updates"] == 4 and described["replaced"] == moved
    assert set(described["age_histogram"]) == {"2", "4", "8", "12"}
    assert sum(described["age_histogram"].values()) == sum(len(i) for i in naive.active.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inactive_and_dropped_weights_are_pretrained_bit_for_bit(dtype: torch.dtype):
    model = llama(dtype)
    pretrained = {n: p.detach().clone() for n, p in model.named_parameters()}
    method, optimizer = start(model)
    left = {n: set() for n in method.layers}
    for t, ids in enumerate(batches(14), 1):
        before = {n: set(layer.indices.tolist()) for n, layer in method.layers.items()}
        one_step(model, method, optimizer, ids, t)
        for n, layer in method.layers.items():
            now = set(layer.indices.tolist())
            left[n] = (left[n] | before[n]) - now
            active = torch.zeros(layer.weight.numel(), dtype=torch.bool)
            active[layer.indices.long()] = True
            original = pretrained[f"{n}.weight"].flatten()
            assert torch.equal(layer.flat()[~active], original[~active])
            assert torch.equal(layer.base, original[layer.indices.long()])
            assert (layer.deltas.dtype, layer.base.dtype, layer.indices.dtype) == (torch.float32, dtype, torch.int32)
    assert all(left.values())  # there were dropped weights to look at
    method.merge(model)
    assert dict(model.named_parameters()).keys() == pretrained.keys()
    targets = {f"{n}.weight" for n in left}
    assert all(torch.equal(p, pretrained[n]) for n, p in model.named_parameters() if n not in targets)
    assert not any(torch.equal(p, pretrained[n]) for n, p in model.named_parameters() if n in targets)


def test_capacity_and_density():
    model = llama()
    method, _ = start(model, fraction=0.03)
    capacity = Spiel(SpielConfig(), 0.03, 0, 10).capacity(shapes(llama()))
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == capacity.trainable == capacity.units == round(0.03 * capacity.total)
    held = sum(layer.weight.numel() for layer in method.layers.values())
    for layer in method.layers.values():
        assert abs(len(layer.deltas) - capacity.units * layer.weight.numel() / held) < 1
        assert layer.indices.unique().numel() == len(layer.deltas)
    assert apportion(7, {"a": 10, "b": 10, "c": 1}) == {"a": 4, "b": 3, "c": 0}


def test_first_indices_are_seeded_and_uniform():
    a, b, c = (start(llama(), seed=seed)[0] for seed in (5, 5, 6))
    for x, y, z in zip(a.layers.values(), b.layers.values(), c.layers.values()):
        assert torch.equal(x.indices, y.indices) and not torch.equal(x.indices, z.indices)
    generator = torch.Generator().manual_seed(0)
    for count in (2, 6):  # the sparse and the dense way
        drawn = torch.stack([random_indices(12, count, generator) for _ in range(3000)])
        assert all(len(set(row)) == count for row in drawn[:100].tolist())
        share = drawn.flatten().bincount(minlength=12) / (3000 * count / 12)
        assert (share - 1).abs().max() < 0.2


def test_schedule():
    assert [t for t in range(1, 101) if is_update(t, 20, 5, 100)] == [5, 20, 40, 60, 80]
    assert [t for t in range(1, 21) if is_update(t, 5, 5, 21)] == [5, 10, 15, 20]
    assert [t for t in range(1, 13) if is_update(t, 4, 3, 13)] == [3, 8, 12]  # 4 would share step 3 with the first
    assert replaced(5, 50, 0.2, 5, 100) == 50
    assert [replaced(t, 30, 0.1, 5, 100) for t in (0, 50, 100)] == [3, 1, 0]


def tensors(value: Any, seen: set[int]) -> list[torch.Tensor]:
    """All tensors reachable from a value through attributes and containers."""
    if id(value) in seen or isinstance(value, type):
        return []
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return [value] + tensors(value.grad, seen)
    if isinstance(value, dict):
        return [t for pair in value.items() for v in pair for t in tensors(v, seen)]
    if isinstance(value, (list, tuple, set)):
        return [t for v in value for t in tensors(v, seen)]
    return tensors(vars(value), seen) if hasattr(value, "__dict__") and not callable(value) or isinstance(
        value, nn.Module
    ) else []  # fmt: skip


def test_memory_is_a_few_numbers_per_delta():
    model = llama()
    base = {p.data_ptr() for p in model.parameters()}
    method, optimizer = start(model)
    train(model, method, optimizer, batches(6))
    method.before_step(model, 7)  # into an estimation phase (7, 8), gradients still there
    ids = batches(1)[0]
    model(input_ids=ids, labels=ids).loss.backward()
    extra = [t for t in tensors([method, optimizer, model], set()) if t.data_ptr() not in base]
    deltas = sum(len(layer.deltas) for layer in method.layers.values())
    buffers = sum(b.numel() for n, b in model.named_buffers() if "rotary" in n)
    sizes = {s.data_ptr(): s.nbytes() // t.element_size() for t in extra for s in [t.untyped_storage()]}
    assert max(sizes.values()) <= max(deltas, buffers)  # of all matrices together
    numbers = sum(sizes.values())
    assert 11 * deltas <= numbers <= 11 * deltas + 4 * buffers  # indices, base, delta, grad, Adam 3, candidates 4


def test_config_round_trip_and_default_targets():
    config = SpielConfig.from_dict({"update_every": 10, "targets": ["q_proj"]})
    assert config == SpielConfig(targets=("q_proj",), update_every=10)
    assert SpielConfig.from_dict(config.to_dict()) == config
    assert (SpielConfig().update_every, SpielConfig().estimate_steps, SpielConfig().replace_rate) == (20, 5, 0.2)


@pytest.mark.parametrize(
    "config,fraction,message",
    [
        ({"update_every": 0}, 0.01, "update_every=0"),
        ({"estimate_steps": 0}, 0.01, "estimate_steps=0"),
        ({"estimate_steps": 21}, 0.01, "estimate_steps=21"),
        ({"replace_rate": 1.5}, 0.01, "replace_rate=1.5"),
        ({"weight_decay": -1.0}, 0.01, "weight_decay=-1.0"),
        ({"weight_decay": float("nan")}, 0.01, "weight_decay=nan"),
        ({}, None, "fraction=None"),
        ({}, 0.0, "fraction=0.0"),
        ({}, 1e-9, "fraction=1e-09"),
        ({}, 0.9, "fraction=0.9: .* choose at most 0.3"),
        ({"targets": ("q_proj",)}, 0.1, "fraction=0.1: .* choose at most 0.05"),
        ({"targets": ("c_attn",)}, 0.01, "c_attn"),
        ({"targets": ()}, 0.01, "targets"),
    ],
)
def test_bad_requests_are_refused(config: dict[str, Any], fraction: float | None, message: str):
    with pytest.raises(ValueError, match=message) as error:
        Spiel(SpielConfig(**config), fraction, 0, 100).capacity(shapes(llama()))
    assert "\n" not in str(error.value)


def test_targets_that_are_not_linear_are_refused():
    model = nn.ModuleDict({"table": nn.Embedding(8, 8), "head": nn.Linear(8, 8)})
    with pytest.raises(ValueError, match="table is a Embedding"):
        Spiel(SpielConfig(targets=("table", "head")), 0.1, 0, 10).attach(model)

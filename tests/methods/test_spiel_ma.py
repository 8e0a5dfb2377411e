"""SpIEL-MA: SM3's updates and the weights that are grown, against values worked out by hand and a dense version."""

from __future__ import annotations

import copy

import pytest
import torch
from spiel_steps import LR, batches, llama, one_step
from torch import nn

from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.deltas import SpielLinear
from smt_bench.methods.spiel.config import ScheduleConfig
from smt_bench.methods.spiel.largest import largest_products
from smt_bench.methods.spiel.ma import SpielMa
from smt_bench.methods.spiel.selection import is_update, replaced
from smt_bench.methods.spiel.sm3 import SpielSM3

INDICES = [0, 3, 6, 11, 13, 17]  # of a 4 x 5 matrix
GRADIENTS = [[1, -2, 0.5, 3, -1, 0.25], [0.5, 1, -2, 0, 4, 1], [0, 0, 1, 1, 1, -1]]


def layer_and_optimizer(dtype: torch.dtype = torch.float64) -> tuple[SpielLinear, SpielSM3]:
    layer = SpielLinear(nn.Linear(5, 4, bias=False, dtype=dtype), torch.tensor(INDICES))
    groups = [{"params": [layer.deltas], "lr": 0.1, "weight_decay": 0.5}]
    return layer, SpielSM3(groups, [[(layer, 0)]], 0.1, 1e-8, 0.5)


def steps(layer: SpielLinear, optimizer: SpielSM3, gradients: list[list[float]]) -> list[float]:
    for gradient in gradients:
        layer.deltas.grad = torch.tensor(gradient, dtype=layer.deltas.dtype)
        optimizer.step()
    return layer.deltas.tolist()


def test_values_worked_out_by_hand() -> None:
    layer, optimizer = layer_and_optimizer()
    phi = steps(layer, optimizer, GRADIENTS[:2])
    ((_, rows_H, columns_W),) = optimizer.buffers(layer.deltas)
    assert rows_H.tolist() == [5, 4.25, 20, 1.0625] and columns_W.tolist() == [1.25, 9, 1.0625, 20, 0]
    assert phi == pytest.approx([-0.1327353, 0.0477647, 0.0019135, -0.09025, 0.0052794, -0.1824135], abs=5e-8)
    phi = steps(layer, optimizer, GRADIENTS[2:])
    assert phi == pytest.approx([-0.1260985, 0.0453765, -0.0396435, -0.1157791, -0.0157153, -0.1071433], abs=5e-8)
    slots_k = layer.smallest(2)
    assert sorted(layer.indices[slots_k].tolist()) == [6, 13]
    grown_k = largest_products(rows_H, columns_W, layer.indices, 2)
    assert grown_k.tolist() == [8, 1]
    layer.move(slots_k, grown_k)
    phi = dict(zip(layer.indices.tolist(), steps(layer, optimizer, [[1.0] * 6])))
    assert phi[1] == pytest.approx(-0.0387836, abs=5e-8) and phi[8] == pytest.approx(-0.038, abs=5e-8)


@pytest.mark.parametrize("kind", ["spread", "few values", "zeros", "all equal", "nothing", "tiny"])
@pytest.mark.parametrize("k", [0, 1, 7, 40, 1000])
def test_largest_products_are_those_of_the_outer_product(kind: str, k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    draw = {
        "spread": lambda n: torch.rand(n, generator=generator).exp().pow(8),
        "few values": lambda n: torch.randint(0, 4, (n,), generator=generator).float(),
        "zeros": lambda n: torch.rand(n, generator=generator) * (torch.rand(n, generator=generator) > 0.7),
        "all equal": torch.ones,
        "nothing": torch.zeros,
        "tiny": lambda n: torch.rand(n, generator=generator) * 1e-38,
    }[kind]
    rows_H, columns_W = draw(17), draw(23)
    active_D = torch.randperm(17 * 23, generator=generator)[:60]
    products = torch.outer(rows_H.double(), columns_W.double()).flatten().tolist()
    barred = set(active_D.tolist())
    order = sorted((i for i, p in enumerate(products) if p > 0 and i not in barred), key=lambda i: -products[i])
    assert largest_products(rows_H, columns_W, active_D, k).tolist() == order[:k]


def test_equals_a_naive_dense_version() -> None:
    """Everything dense, one weight at a time, in float64; the same seeds, hence the same first deltas."""
    total, every, phase, rate, decay = 14, 4, 2, 0.5, 3.0
    model = llama(torch.float64)
    naive = copy.deepcopy(model)
    config = ScheduleConfig(update_every=every, estimate_steps=phase, replace_rate=rate, weight_decay=decay)
    method = SpielMa(config, 0.03, 3, total)
    groups = [{"params": g.params, "lr": LR, "weight_decay": g.weight_decay} for g in method.attach(model)]
    optimizer = method.optimizer(groups, OptimizerSettings(lr=LR))
    active = {name: layer.indices.tolist() for name, layer in method.layers.items()}
    weights = {name: naive.get_parameter(f"{name}.weight") for name in active}
    pretrained = {name: w.detach().clone() for name, w in weights.items()}
    phi = {name: dict.fromkeys(indices, 0.0) for name, indices in active.items()}
    r = {name: [0.0] * w.shape[0] for name, w in weights.items()}
    c = {name: [0.0] * w.shape[1] for name, w in weights.items()}
    for t, ids in enumerate(batches(total), start=1):
        one_step(model, method, optimizer, ids, t)
        naive.zero_grad()
        naive(input_ids=ids, labels=ids).loss.backward()
        for name, weight in weights.items():
            width, old_r, old_c = weight.shape[1], list(r[name]), list(c[name])
            grad = weight.grad.flatten().tolist()
            for j in phi[name]:
                a, b = divmod(j, width)
                nu = min(old_r[a], old_c[b]) + grad[j] ** 2
                r[name][a], c[name][b] = max(r[name][a], nu), max(c[name][b], nu)
                phi[name][j] = (phi[name][j] - LR * grad[j] / (nu + 1e-8) ** 0.5) * (1 - LR * decay)
            if is_update(t, every, phase, total):
                k = replaced(t, len(phi[name]), rate, phase, total)
                score = {
                    i: r[name][i // width] * c[name][i % width] for i in range(weight.numel()) if i not in phi[name]
                }
                grown = sorted((i for i in score if score[i] > 0), key=lambda i: -score[i])[:k]
                for j in sorted(phi[name], key=lambda j: abs(phi[name][j]))[: len(grown)]:
                    del phi[name][j]
                phi[name] |= dict.fromkeys(grown, 0.0)
            with torch.no_grad():
                weight.copy_(pretrained[name])
                for j, value in phi[name].items():
                    weight.view(-1)[j] += value
    assert method.updates == 4 and method.replaced > 0
    for name, weight in weights.items():
        assert set(method.layers[name].indices.tolist()) == set(phi[name])
        torch.testing.assert_close(model.get_parameter(f"{name}.weight"), weight, rtol=0, atol=1e-9)
    ages = method.describe()["age_histogram"]
    assert sum(ages.values()) == sum(len(p) for p in phi.values()) and list(ages)[-1] == "12"


def test_state_is_a_number_per_row_and_column() -> None:
    layer, optimizer = layer_and_optimizer(torch.float32)
    steps(layer, optimizer, GRADIENTS)
    assert {name: tuple(t.shape) for name, t in optimizer.state[layer.deltas].items()} == {
        "rows": (4,),
        "columns": (5,),
    }

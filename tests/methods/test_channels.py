"""SMT's activation selection as appendix B.2 has it: single channels, against naive dense versions in float64."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_llama
from torch import nn

from smt_bench import methods
from smt_bench.methods.smt.gradients import gradients_of
from smt_bench.methods.smt.install import sparse_layers
from smt_bench.methods.smt.layer import SparseLinear
from smt_bench.methods.smt.selection import channel_grid

CONFIG = {"metric": "activation_channels", "warmup_steps": 2, "warmup_trains": False}


@pytest.mark.parametrize("pairs", [[(0, 0), (0, 2), (0, 1)], [(1, 2), (0, 0), (1, 0), (2, 1)]])
def test_strips_have_the_dense_gradients_numbers(pairs: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    height = 12 // (1 + max(row for row, _ in pairs))
    dy_TO, kept_TC = torch.randn(7, 12, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    found = gradients_of(dy_TO, kept_TC, pairs, (height, 1))
    dense_OC = dy_TO.t() @ kept_TC
    for strip, (row, column) in zip(found, pairs):
        torch.testing.assert_close(strip[:, 0], dense_OC[row * height : (row + 1) * height, column], rtol=1e-12, atol=0)


@pytest.mark.parametrize("index", [[(0, 1), (0, 4)], [(0, 1), (1, 1), (1, 3)]])
def test_a_layer_of_channels_trains_like_a_masked_dense_one(index: list[tuple[int, int]]) -> None:
    torch.manual_seed(1)
    dense = nn.Linear(6, 8).double()
    height = 8 if max(row for row, _ in index) == 0 else 4
    mask_OI = torch.zeros(8, 6, dtype=torch.float64)
    for row, column in index:
        mask_OI[row * height : (row + 1) * height, column] = 1
    linear = nn.Linear(6, 8).double()
    linear.load_state_dict(dense.state_dict())
    layers, flat = sparse_layers({"q": linear}, {"q": index}, (height, 1))
    layer = layers["q"]
    blocks = flat.parameters
    mine, naive = (
        torch.optim.AdamW(blocks, lr=0.1, weight_decay=0),
        torch.optim.AdamW([dense.weight], lr=0.1, weight_decay=0),
    )
    for _ in range(3):
        x = torch.randn(2, 5, 6, dtype=torch.float64)
        outputs = []
        for module in (layer, dense):
            own = x.clone().requires_grad_(True)
            if module is layer:
                flat.clear_gradients()
            y = module(own)
            y.square().sum().backward()
            outputs += [y.detach(), own.grad]
        torch.testing.assert_close(outputs[:2], outputs[2:], rtol=1e-10, atol=1e-12)
        flat.publish_gradients()
        dense.weight.grad *= mask_OI
        mine.step()
        naive.step()
        naive.zero_grad()
        layer.write_back()
    torch.testing.assert_close(layer.dense().weight, dense.weight, rtol=1e-10, atol=1e-12)


def test_whole_channels_with_the_largest_norms_train_until_the_budget_is_met() -> None:
    model = tiny_llama()
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    height, strips = channel_grid(shapes, ("q_proj", "k_proj", "v_proj"))
    method = methods.build("smt", CONFIG, 0.02, 0, 10)
    capacity = method.capacity(shapes)
    total = sum(p.numel() for p in model.parameters())
    assert (capacity.unit, capacity.unit_numbers) == ("channels", height)
    assert capacity.trainable == capacity.units * height and abs(capacity.trainable - 0.02 * total) <= height / 2

    norms: dict[str, torch.Tensor] = {}
    for name in strips:
        norms[name] = torch.zeros(shapes[f"{name}.weight"][1])

        def watch(_: nn.Module, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
            norms[name] += inputs[0].detach().flatten(0, -2).norm(dim=0)

        model.get_submodule(name).register_forward_pre_hook(watch)
    assert method.warmup(model) == []
    for step in (1, 2):
        model(input_ids=torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(step)))
        method.observe(model, step)
    groups = method.attach(model)
    assert sum(p.numel() for group in groups for p in group.params) == capacity.trainable

    # Naively: channels of all matrices by norm, each with all of its rows, until the numbers are spent.
    ranked = sorted((-float(n), place, i) for place, name in enumerate(strips) for i, n in enumerate(norms[name]))
    left, names = capacity.units, list(strips)
    expected: dict[str, set[tuple[int, int]]] = {}
    for _, place, channel in ranked:
        for row in range(strips[names[place]][0]):
            if left:
                expected.setdefault(names[place], set()).add((row, channel))
                left -= 1
    assert {name: set(found) for name, found in method.selection.items()} == expected
    assert method.describe()["block_size"] == [height, 1]
    method.merge(model)
    assert not any(isinstance(m, SparseLinear) for m in model.modules())


def test_layers_of_unequal_height_have_strips_of_their_common_divisor() -> None:
    shapes = {"a.q_proj.weight": (96, 20), "a.k_proj.weight": (64, 20), "a.other.weight": (7, 7)}
    assert channel_grid(shapes, ("q_proj", "k_proj")) == (32, {"a.q_proj": (3, 20), "a.k_proj": (2, 20)})


def test_a_budget_beyond_all_channels_is_refused() -> None:
    shapes = {name: tuple(p.shape) for name, p in tiny_llama().named_parameters()}
    with pytest.raises(ValueError, match=r"needs \d+ channels of \d+x1, but q_proj, k_proj, v_proj hold"):
        methods.build("smt", CONFIG, 0.9, 0, 10).capacity(shapes)

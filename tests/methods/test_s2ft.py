"""S2FT: which rows and columns meet in a channel, how many train, and how, against a masked dense model in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import tiny_llama
from labelled import labelled
from matrix import model_of
from torch import nn

from smt_bench import methods
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.modules import total_parameters
from smt_bench.methods.s2ft.method import S2ft, head_size
from smt_bench.methods.s2ft.structures import budgets, draw, structures
from smt_bench.methods.smt.gradients import gradients_of
from smt_bench.models.inventory import inventory
from smt_bench.training.loss import response_loss
from smt_bench.training.optimizer import TorchUpdater
from smt_bench.training.step import Step

LR = 1e-2


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def all_targets(model: nn.Module) -> tuple[str, ...]:
    return inventory(model).resolve(S2ft.Config().layers, lenient=True)


@pytest.mark.parametrize(
    "name", "llama gpt2 falcon falcon+40b phi3 gpt_bigcode gpt_neox qwen3 deepseek_v3 bloom".split()
)
def test_a_channel_whose_rows_are_zero_is_one_whose_columns_are(name: str) -> None:
    """What a structure's rows compute is read by its columns and nothing else: without either the model says the same."""
    model: Any = model_of(name).eval()
    rounding = 1e-5 if name == "deepseek_v3" else 1e-12  # torch multiplies matrices of experts in float32 only
    if rounding < 1e-6:
        model.double()
    found = structures(shapes_of(model), all_targets(model))
    head = head_size(model, found)
    ids = torch.randint(3, 300, (2, 9))
    assert {one.kind for one in found} == {"attention", "mlp"}
    tried = {}
    for one in found:
        if one.rows and one.columns is not None:
            tried.setdefault(one.kind, one)
    for kind, one in tried.items():
        size = head if kind == "attention" else 1
        channels = [size * (one.channels // size - 1) + d for d in range(size)] + list(range(size))
        rowless, columnless = copy.deepcopy(model), copy.deepcopy(model)
        with torch.no_grad():
            for layer in (rowless.get_submodule(path) for path in one.rows):
                layer.weight[channels] = 0
                if layer.bias is not None:
                    layer.bias[channels] = 0
            columnless.get_submodule(one.columns).weight[:, one.columns_of(channels, head)] = 0
            logits = [each(input_ids=ids, use_cache=False).logits for each in (model, rowless, columnless)]
        assert not torch.allclose(logits[0], logits[1], atol=1e-4), kind
        torch.testing.assert_close(logits[1], logits[2], rtol=0, atol=rounding)
    assert set(tried) == {"attention", "mlp"}


@pytest.mark.parametrize("targets", [(), ("down_proj",), ("v_proj", "o_proj")])
def test_trains_like_a_masked_dense_model(targets: tuple[str, ...]) -> None:
    config = {"targets": targets} if targets else {}
    model: Any = tiny_llama().double()
    dense = copy.deepcopy(model)
    method: Any = methods.build("s2ft", config, 0.05, 1, 5)
    capacity = method.capacity(shapes_of(model))
    updater = TorchUpdater(model, method, method.attach(model), OptimizerSettings(LR), 1e9)
    step = Step("tuning", model, method, updater)

    # Naively, from what the record says: 4 heads of 16, 2 of keys and values.
    masks = {name: torch.zeros_like(p) for name, p in dense.named_parameters()}
    described = method.describe()
    assert described["head"] == (16 if set(targets) & {"v_proj", "o_proj"} or not targets else 1)
    for first, channels in described["channels"].items():
        block = ".".join(first.split(".")[:3])
        for c in channels:
            if "self_attn" in first:
                masks[f"{block}.self_attn.v_proj.weight"][c] = 1
                for query_head in range(4):
                    if query_head // 2 == c // 16:
                        masks[f"{block}.self_attn.o_proj.weight"][:, 16 * query_head + c % 16] = 1
            else:
                for name in ("up_proj", "gate_proj") if not targets else ():
                    masks[f"{block}.mlp.{name}.weight"][c] = 1
                masks[f"{block}.mlp.down_proj.weight"][:, c] = 1
    assert sum(int(mask.sum()) for mask in masks.values()) == capacity.trainable
    adam = torch.optim.AdamW(dense.parameters(), lr=LR, weight_decay=0)
    for number in range(1, 6):
        some = labelled(torch.randint(0, 100, (4, 12), generator=torch.Generator().manual_seed(number)))
        step.take(number, [labelled(ids) for ids in some.ids_BT.chunk(2)], 1.0)
        dense.zero_grad()
        (response_loss(dense, some) / some.targets).backward()
        for name, parameter in dense.named_parameters():
            parameter.grad *= masks[name]
        adam.step()
    method.merge(model)
    for (name, ours), naive in zip(model.named_parameters(), dense.parameters()):
        torch.testing.assert_close(ours, naive, rtol=1e-9, atol=1e-11, msg=name)


def test_rows_have_the_dense_gradients_numbers() -> None:
    torch.manual_seed(0)
    dy_TO, x_TI = torch.randn(7, 12, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    found = gradients_of(dy_TO, x_TI, [(4, 0), (0, 0), (11, 0)], (1, 5))
    torch.testing.assert_close(found[:, 0], (dy_TO.t() @ x_TI)[[4, 0, 11]], rtol=1e-12, atol=0)


def test_every_kind_gets_the_same_share_and_heads_stay_whole_but_one() -> None:
    from smt_bench.models import build

    shapes = build.shapes("llama3-8b")  # 32 heads of 128, 8 of keys and values
    found = structures(shapes, S2ft.Config().layers)
    assert len(found) == 64
    attention, mlp = (next(one for one in found if one.kind == kind) for kind in ("attention", "mlp"))
    assert (attention.channels, attention.repeats, attention.cost) == (1024, 4, 5 * 4096)
    assert (mlp.channels, mlp.repeats, mlp.cost) == (14336, 1, 3 * 4096)
    wanted = round(0.0084 * total_parameters(shapes))
    counts = budgets(found, wanted)
    held = 32 * (1024 * 5 + 14336 * 3) * 4096
    for one in (attention, mlp):
        assert counts[one.kind, one.cost] / (32 * one.channels) == pytest.approx(wanted / held, rel=2e-3)
    assert abs(sum(cost * count for (_, cost), count in counts.items()) - wanted) <= mlp.cost / 2
    chosen = draw(found, counts, 128, 0)
    assert draw(found, counts, 128, 0) == chosen != draw(found, counts, 128, 1)
    cut = []
    for one, channels in zip(found, chosen):
        assert len(set(channels)) == len(channels) and all(0 <= c < one.channels for c in channels)
        if one.kind == "attention":
            heads = {head: [c for c in channels if c // 128 == head] for head in {c // 128 for c in channels}}
            cut += [len(own) for own in heads.values() if len(own) != 128]
    sizes = {one.kind: sum(len(c) for o, c in zip(found, chosen) if o.kind == one.kind) for one in found}
    assert sizes == {kind: count for (kind, _), count in counts.items()}
    assert cut == [sizes["attention"] % 128]


def test_what_has_no_partner_is_refused() -> None:
    shapes = shapes_of(tiny_llama())
    with pytest.raises(ValueError, match="q_proj has no coupled rows or columns: choose from v_proj"):
        methods.build("s2ft", {"targets": ["q_proj", "v_proj"]}, 0.01, 0, 5).capacity(shapes)
    odd = {f"b.0.mlp.{name}.weight": shape for name, shape in (("up_proj", (6, 4)), ("down_proj", (4, 9)))}
    with pytest.raises(ValueError, match="do not go together"):
        structures(odd, ("up_proj", "down_proj"))
    model: Any = tiny_llama()
    model.config.head_dim = 5
    with pytest.raises(ValueError, match="heads cannot be told"):
        methods.build("s2ft", {}, 0.01, 0, 5).attach(model)

"""Masks against naive dense versions in float64: what is chosen, and how the chosen weights train."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import tiny_llama
from labelled import labelled
from torch import nn

from smt_bench import methods
from smt_bench.data.batches import Batch
from smt_bench.methods.base import OptimizerSettings
from smt_bench.methods.masks.choice import largest
from smt_bench.methods.masks.relaxed import penalty_gradient
from smt_bench.methods.masks.watch import Watch, squares
from smt_bench.methods.modules import apportion
from smt_bench.training.loss import response_loss
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.step import Step

STEPS, FRACTION, LR = 6, 0.05, 1e-2
CASES: dict[str, dict[str, Any]] = {
    "random-mask": {},
    "sift": {"warmup_steps": 2},
    "fish": {"warmup_steps": 2},
    "lt-sft": {"warmup_share": 0.5, "warmup_lr_scale": 0.3},
    "diff-pruning": {"warmup_share": 0.5, "warmup_lr_scale": 0.3, "gate_lr": 2.0, "penalty": 1e-5},
}


def batch(step: int) -> Batch:
    ids = torch.randint(0, 100, (4, 12), generator=torch.Generator().manual_seed(step))
    return labelled(ids)


def halves(whole: Batch) -> list[Batch]:
    return [labelled(ids) for ids in whole.ids_BT.chunk(2)]


def build(name: str) -> Any:
    return methods.build(name, CASES[name], FRACTION, 3, STEPS)


def go(method: Any, model: nn.Module, steps: int = STEPS) -> None:
    """Training's own steps, in two micro-batches."""

    def stage(stage: Any, groups: Any, numbers: range) -> None:
        made = TorchUpdater(model, method, groups, OptimizerSettings(LR), 1e9) if groups else FrozenUpdater(model)
        step = Step(stage, model, method, made)
        for number in numbers:
            step.take(number, halves(batch(number)), 1.0)

    warm = min(method.warmup_steps, steps)
    if warm:
        stage("warmup", method.warmup(model), range(1, warm + 1))
    if steps > warm:
        stage("tuning", method.attach(model), range(warm + 1, steps + 1))


def targets(model: nn.Module) -> dict[str, nn.Parameter]:
    ends = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    return {n: m.weight for n, m in model.named_modules() if n.endswith(ends)}


def gradients(model: nn.Module, some: Batch, divisor: float) -> dict[str, torch.Tensor]:
    model.zero_grad()
    (response_loss(model, some) / divisor).backward()
    return {name: weight.grad.clone() for name, weight in targets(model).items()}


def top(scores: dict[str, torch.Tensor], count: int) -> dict[str, set[int]]:
    ranked = sorted(
        (-float(s), place, i)
        for place, name in enumerate(scores)
        for i, s in enumerate(scores[name].abs().flatten().tolist())
    )
    names, found = list(scores), {name: set() for name in scores}
    for _, place, i in ranked[:count]:
        found[names[place]].add(i)
    return found


def gated_round(model: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Diff pruning's first round, its gates by autograd: by matrix the differences, and these under gates without noise."""
    before = {n: w.detach().clone() for n, w in targets(model).items()}
    w = {n: torch.zeros_like(x).requires_grad_() for n, x in before.items()}
    a = {n: torch.full_like(x, 5.0).requires_grad_() for n, x in before.items()}
    adam = torch.optim.AdamW(
        [{"params": list(w.values())}, {"params": list(a.values()), "lr": 2.0}], 0.3 * LR, weight_decay=0
    )
    for number in range(1, 4):
        changed = {}
        for place, (n, x) in enumerate(before.items()):
            noise = torch.Generator().manual_seed((3 * 1_000_003 + place) * 1_000_003 + number - 1)
            u = torch.rand(x.shape, generator=noise, dtype=x.dtype).clamp(1e-4, 1 - 1e-4)
            s = torch.sigmoid(u.log() - (1 - u).log() + a[n])
            changed[n] = x + (3 * s - 1.5).clamp(0, 1) * w[n]
            targets(model)[n].data.copy_(changed[n].detach())
        found = gradients(model, batch(number), batch(number).targets)
        adam.zero_grad()
        (1e-5 * sum(torch.sigmoid(x).sum() for x in a.values())).backward()
        torch.autograd.backward(list(changed.values()), [found[n] for n in changed])
        adam.step()
    open_gates = {n: (3 * torch.sigmoid(x) - 1.5).clamp(0, 1).detach() for n, x in a.items()}
    assert sum(int(((z > 0) & (z < 1)).sum()) for z in open_gates.values()) > 0, (
        "no gate is under way: a test of nothing"
    )
    return {n: x.detach() for n, x in w.items()}, {n: z * w[n].detach() for n, z in open_gates.items()}


def naive_choice(name: str, model: Any) -> dict[str, set[int]]:
    """What the method has to choose, from a pretrained model that it may change."""
    count = round(FRACTION * sum(p.numel() for p in model.parameters()))
    if name == "lt-sft":
        before = {n: w.detach().clone() for n, w in targets(model).items()}
        adam = torch.optim.AdamW(targets(model).values(), lr=0.3 * LR, weight_decay=0)
        for number in range(1, 4):
            gradients(model, batch(number), batch(number).targets)
            adam.step()
        return top({n: w.detach() - before[n] for n, w in targets(model).items()}, count)
    if name == "diff-pruning":
        return top(gated_round(model)[1], count)
    scores = {n: torch.zeros_like(w) for n, w in targets(model).items()}
    for number in (1, 2):
        some = batch(number)
        parts = [some] if name == "sift" else [labelled(ids[None]) for ids in some.ids_BT]
        for part in parts:
            for n, grad in gradients(model, part, some.targets).items():
                scores[n] += grad if name == "sift" else grad**2
    if name == "fish":
        return top(scores, count)
    shares = apportion(count, {n: s.numel() for n, s in scores.items()})
    return {n: top({n: scores[n]}, shares[n])[n] for n in scores}


@pytest.mark.parametrize("name", CASES)
def test_chooses_and_trains_like_a_masked_dense_model(name: str) -> None:
    model, method = tiny_llama().double(), build(name)
    dense, pretrained = copy.deepcopy(model), copy.deepcopy(model)
    go(method, model)
    chosen = {n: set(found.tolist()) for n, found in method.indices.items()}
    if name == "random-mask":
        total = sum(p.numel() for p in dense.parameters())
        shares = apportion(round(FRACTION * total), {n: w.numel() for n, w in targets(dense).items()})
        assert {n: len(found) for n, found in chosen.items()} == shares
    else:
        assert {n: found for n, found in naive_choice(name, copy.deepcopy(dense)).items() if found} == chosen
    masks = {n: torch.zeros_like(w).flatten() for n, w in targets(dense).items()}
    for n, found in chosen.items():
        masks[n][sorted(found)] = 1
    if name == "diff-pruning":  # goes on from what it has learnt
        for n, w in gated_round(copy.deepcopy(dense))[0].items():
            targets(dense)[n].data += masks[n].view_as(w) * w
    adam = torch.optim.AdamW(targets(dense).values(), lr=LR, weight_decay=0)
    for number in range(method.warmup_steps + 1, STEPS + 1):
        gradients(dense, batch(number), batch(number).targets)
        for n, weight in targets(dense).items():
            weight.grad *= masks[n].view_as(weight)
        adam.step()
    method.merge(model)
    for (n, ours), naive, before in zip(model.named_parameters(), dense.parameters(), pretrained.parameters()):
        expected = naive if n.removesuffix(".weight") in masks else before
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11, msg=n)
    described = method.describe()
    assert (
        sum(described["deltas"].values())
        == sum(described["deltas_per_target"].values())
        == sum(map(len, chosen.values()))
    )


def test_gates_that_are_closed_fill_up_what_open_ones_leave() -> None:
    generator, model = torch.Generator().manual_seed(0), tiny_llama()
    method, linears = build("diff-pruning"), {n: m for n, m in model.named_modules() if n in targets(model)}
    learnt = {}
    for n, linear in linears.items():
        w, a = (torch.randn(linear.weight.shape, generator=generator) for _ in range(2))
        learnt[n] = w, 2 * a - 4  # few are above 0, where gates open
    method._learnt = dict(learnt)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    found, units = method.choose(linears, shapes), method.capacity(shapes).units
    is_open = {n: a > 0 for n, (_, a) in learnt.items()}
    opened = sum(int(z.sum()) for z in is_open.values())
    assert 0 < opened < units
    closed = top({n: (w * torch.sigmoid(a)).abs() * ~is_open[n] for n, (w, a) in learnt.items()}, units - opened)
    expected = {n: closed[n] | set(is_open[n].flatten().nonzero().flatten().tolist()) for n in learnt}
    assert {n: set(places.tolist()) for n, places in found.items()} == {n: p for n, p in expected.items() if p}
    told = method.describe()
    assert told["deltas_of_closed_gates"] == units - opened
    assert told["gates_open"] == pytest.approx(opened / sum(a.numel() for _, a in learnt.values()))


def test_an_unused_gate_closes_in_a_short_run_with_the_recipes_epsilon() -> None:
    """The docstring's steps: 170 with the authors' epsilon, 45 with the recipe's."""
    kind = methods.find("diff-pruning")
    needed = []
    for given in ({}, kind.recipe(220, {})):
        config = kind.Config.from_dict(given)
        a = nn.Parameter(torch.tensor([config.gate_logit]))
        adam, steps = torch.optim.AdamW([a], config.gate_lr, eps=config.gate_eps, weight_decay=0), 0
        while float(a) > 0:
            a.grad = config.penalty * penalty_gradient(a.detach())
            adam.step()
            steps += 1
        needed.append(steps)
    assert 165 <= needed[0] < 180 and 40 <= needed[1] < 50


def test_seeds_draw_other_random_masks_and_say_so() -> None:
    found = []
    for seed in (0, 0, 1):
        method = methods.build("random-mask", {}, FRACTION, seed, STEPS)
        method.attach(tiny_llama())
        found.append(method.describe()["indices_blake2b"])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_are_those_of_a_stable_sort(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = {
        "a": torch.randn(7, 5, generator=generator, dtype=dtype),
        "b": torch.zeros(3, 4, dtype=dtype),
        "c": torch.randint(-3, 3, (6, 6), generator=generator).to(dtype) * 1e-30,
        "d": torch.randn(2, 8, generator=generator, dtype=dtype) * 1e20,
    }
    scores["b"][1, 2] = -0.0
    for count in (1, 2, 16, 17, 40, 60, 75, 98, 99):
        expected = {n: sorted(found) for n, found in top(scores, count).items() if found}
        found = {n: positions.tolist() for n, positions in largest(scores, count).items()}
        assert found == expected, count


def test_scores_that_are_no_numbers_are_refused() -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="b are not finite"):
            largest({"a": torch.ones(2, 2), "b": torch.tensor([[1.0, bad]])}, 1)


def test_scores_without_values_are_spread_evenly() -> None:
    found = largest({"a": torch.empty(4, 10, device="meta"), "b": torch.empty(4, 5, device="meta")}, 6)
    assert {n: p.tolist() for n, p in found.items()} == {"a": [0, 10, 20, 30], "b": [0, 10]}


class Flattened(nn.Module):
    """A model whose layer sees the tokens of all examples in one row, or only some of them."""

    def __init__(self, dropped: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.up_proj, self.dropped = nn.Embedding(50, 6), nn.Linear(6, 5), dropped
        self.double()

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.up_proj(self.words(ids_BT).flatten(0, 1)[self.dropped :])


def test_examples_are_told_apart_where_their_tokens_stand_in_one_row() -> None:
    ids_BT = torch.randint(0, 50, (3, 4))
    model, sums = Flattened(), {}
    expected = torch.zeros(5, 6, dtype=torch.float64)
    for ids_T in ids_BT:
        model.zero_grad()
        model(ids_T[None]).pow(3).sum().backward()
        expected += model.up_proj.weight.grad**2
    plain = model.up_proj
    watch = Watch(("up_proj",), squares, sums, lambda t: t)
    watch.start(model)
    model(ids_BT).pow(3).sum().backward()
    watch.stop(model)
    torch.testing.assert_close(sums["up_proj"], expected)
    assert model.up_proj is plain and not model.words._forward_hooks
    odd = Flattened(dropped=1)
    Watch(("up_proj",), squares, {}, lambda t: t).start(odd)
    with pytest.raises(ValueError, match="up_proj does not see the tokens of one example after another"):
        odd(ids_BT).sum().backward()


@pytest.mark.parametrize("name", ["fish", "sift"])
def test_a_warm_up_goes_on_from_its_state(name: str) -> None:
    whole = build(name)
    go(whole, tiny_llama(), 3)
    first, model = build(name), tiny_llama()
    go(first, model, 1)
    second = build(name)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    step = Step("warmup", model := tiny_llama(), second, FrozenUpdater(second.warmup(model) or model))
    step.take(2, halves(batch(2)), 1.0)
    second.attach(model)
    assert second.describe() == whole.describe()


def test_lt_sft_ranks_float32_changes_and_rewinds_bf16_weights_to_the_bit() -> None:
    model = tiny_llama().to(torch.bfloat16)
    before = copy.deepcopy(model.state_dict())
    groups = build("lt-sft").warmup(copy.deepcopy(model))
    assert {p.dtype for group in groups for p in group.params} == {torch.float32}
    assert len(groups[0].params) == 14 and groups[0].lr_scale == 0.3
    method = build("lt-sft")
    go(method, model, 3)
    moved = {n: w for n, w in targets(model).items() if not torch.equal(w, before[f"{n}.weight"].float())}
    assert len(moved) == 14
    method.attach(model)
    after = model.state_dict()
    for name, value in before.items():
        assert after[name].dtype == value.dtype and torch.equal(after[name], value), name


@pytest.mark.parametrize(("name", "config"), [("fish", {"warmup_steps": 6}), ("lt-sft", {"warmup_share": 0.99})])
def test_warm_ups_leave_a_step_for_tuning(name: str, config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="warmup_s"):
        methods.build(name, config, FRACTION, 0, STEPS)


def test_recipes_fit_the_warm_up_to_the_run() -> None:
    fish = methods.find("fish")
    assert [fish.recipe(steps, {})["warmup_steps"] for steps in (8, 220, 31_954)] == [1, 11, 64]
    assert fish.recipe(220, {"warmup_steps": 3})["warmup_steps"] == 3
    assert [methods.build("lt-sft", {}, 0.01, 0, steps).warmup_steps for steps in (2, 8, 221)] == [1, 4, 110]

"""One contract for every method, on a two-layer random LLaMA with grouped-query attention."""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections.abc import Iterator, Sequence

import pytest
import torch
from helpers import tiny_llama
from labelled import labelled
from torch import nn

from smt_bench import methods
from smt_bench.methods.base import OptimizerSettings, ParamGroup
from smt_bench.methods.modules import linears, numel, total_parameters
from smt_bench.training.loss import enable_checkpointing
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.step import Step

STEPS = 8
CASES = {
    "full": {},
    "smt": {"block_size": 16, "warmup_steps": 2},
    "smt-frozen": {"block_size": 16, "warmup_steps": 2, "warmup_trains": False},
    "smt-channels": {"metric": "activation_channels", "warmup_steps": 2},
    "lora": {"dropout": 0.0},
    "dora": {"dropout": 0.0},
    "spiel": {"update_every": 3, "estimate_steps": 2},
    "spiel-ma": {"update_every": 3, "estimate_steps": 2},
    "random-mask": {},
    "sift": {"warmup_steps": 2},
    "fish": {"warmup_steps": 2},
    "lt-sft": {"warmup_share": 0.25},
    "diff-pruning": {"warmup_share": 0.25},
    "s2ft": {},
}
IN_PLACE = (
    "smt",
    "spiel",
    "spiel-ma",
    "random-mask",
    "sift",
    "fish",
    "lt-sft",
    "diff-pruning",
    "s2ft",
)  # their updates are numbers of the weights
SPARSE = [name for name in CASES if name != "full"]


def build(case: str, fraction: float | None = 0.05, seed: int = 0) -> methods.Method:
    name = case if case in methods.REGISTRY.names() else case.partition("-")[0]
    return methods.build(name, CASES[case], fraction if methods.find(name).takes_fraction else None, seed, STEPS)


def batch(step: int) -> torch.Tensor:
    return torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(step))


def updater_of(method: methods.Method, model: nn.Module, groups: list[ParamGroup], lr: float = 1e-2) -> TorchUpdater:
    return TorchUpdater(model, method, groups, OptimizerSettings(lr), max_grad_norm=math.inf)


def run(method: methods.Method, model: nn.Module, steps: int = STEPS, lr: float = 1e-2) -> list[float]:
    """Training's own steps, at a constant rate."""
    losses = []
    warmup = method.warmup_steps
    if warmup:
        groups = method.warmup(model)
        step = Step("warmup", model, method, updater_of(method, model, groups, lr) if groups else FrozenUpdater(model))
        losses += [step.take(number, [labelled(batch(number))], 1.0).loss for number in range(1, warmup + 1)]
    method.start = copy.deepcopy(model.state_dict())  # type: ignore[attr-defined]  # what tuning starts from
    step = Step("tuning", model, method, updater_of(method, model, method.attach(model), lr))
    method.updater = step.updater  # type: ignore[attr-defined]
    losses += [step.take(number, [labelled(batch(number))], 1.0).loss for number in range(warmup + 1, steps + 1)]
    return losses


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


@pytest.mark.parametrize("case", CASES)
def test_capacity_is_what_really_trains(case: str) -> None:
    model = tiny_llama()
    method = build(case)
    shapes = shapes_of(model)
    capacity = method.capacity(shapes)
    run(method, model, steps=method.warmup_steps + 1)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == capacity.trainable
    assert capacity.total == total_parameters(shapes) == sum(numel(s) for s in shapes.values())
    if case in SPARSE:
        assert abs(capacity.trainable - 0.05 * capacity.total) <= capacity.unit_numbers


@pytest.mark.parametrize("case", CASES)
def test_merge_restores_modules_and_keeps_the_outputs(case: str) -> None:
    model = tiny_llama()
    types = {name: type(m) for name, m in model.named_modules()}
    method = build(case)
    run(method, model)
    ids = batch(99)
    model.eval()
    with torch.no_grad():
        before = model(input_ids=ids).logits
        method.merge(model)
        after = model(input_ids=ids).logits
    assert {name: type(m) for name, m in model.named_modules()} == types
    assert set(model.state_dict()) == set(tiny_llama().state_dict())
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    assert not torch.equal(after, tiny_llama().eval()(input_ids=ids).logits), "training changed nothing"


def test_every_method_of_this_package_is_held_to_the_contract() -> None:
    """Those of peft's tuners that have no file of their own: `test_peft_tuners.py`."""
    held = {build(case).name for case in CASES}
    assert held | {"base"} == {name for name in methods.REGISTRY.own if ":" not in name}


@pytest.mark.parametrize("harm", ["zeros", "forgets", "leaves"])
@pytest.mark.parametrize("case", ["lora", "spiel", "smt"])
def test_a_merge_that_destroys_the_weights_fails_the_contract(
    harm: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights set to 0; the update thrown away; nothing merged and the weights doubled."""
    whole = build

    def harmful(name: str) -> methods.Method:
        method = whole(name)
        merge, start = method.merge, {n: p.detach().clone() for n, p in tiny_llama().named_parameters()}

        def destroy(model: nn.Module) -> None:
            if harm != "leaves":
                merge(model)
            for n, p in model.named_parameters():
                if harm == "zeros" and "v_proj" in n:
                    p.data.zero_()
                if harm == "forgets":
                    p.data.copy_(start[n])
                if harm == "leaves":
                    p.data.mul_(2)

        method.merge = destroy  # type: ignore[method-assign]
        return method

    monkeypatch.setattr(sys.modules[__name__], "build", harmful)
    with pytest.raises(AssertionError):
        test_merge_restores_modules_and_keeps_the_outputs(case)


@pytest.mark.parametrize("case", SPARSE)
def test_untouched_numbers_are_bit_equal_and_the_change_is_as_small_as_planned(case: str) -> None:
    model = tiny_llama()
    method = build(case)
    run(method, model)
    method.merge(model)
    start, moved = method.start, 0  # type: ignore[attr-defined]
    if case == "lt-sft":
        start = tiny_llama().state_dict()  # it rewinds what its first round moved
    for name, value in model.state_dict().items():
        changed = int((value != start[name]).sum())
        layer = name.rpartition(".")[0].rpartition(".")[2]
        if layer not in method.config.targets:
            assert changed == 0, name
        moved += changed
    capacity = method.capacity(shapes_of(model))
    if case.startswith(IN_PLACE):
        assert 0 < moved <= capacity.trainable
    else:
        assert moved > capacity.trainable  # a low-rank update touches whole matrices


@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_gives_the_same_losses(case: str) -> None:
    first, second = run(build(case), tiny_llama()), run(build(case), tiny_llama())
    assert first == second
    assert len(first) == STEPS


@pytest.mark.parametrize("case", CASES)
def test_resume_from_saved_states_equals_an_uninterrupted_run(case: str) -> None:
    """Everything needed is in the states of model, method and optimizer (dropout is off, so no generator counts)."""
    expected = run(build(case), tiny_llama())

    model, method = tiny_llama(), build(case)
    first = run(method, model, steps=5)
    saved = copy.deepcopy((model.state_dict(), method.state_dict(), method.updater.state_dict()))  # type: ignore[attr-defined]

    model, method = tiny_llama(), build(case)
    method.load_state_dict(saved[1])
    updater = updater_of(method, model, method.attach(model))
    model.load_state_dict(saved[0])
    updater.load_state_dict(saved[2])
    step = Step("tuning", model, method, updater)
    second = [step.take(number, [labelled(batch(number))], 1.0).loss for number in range(6, STEPS + 1)]
    assert first + second == expected


class Shy(TorchUpdater):
    """Shows the gradients that a method declared, no others, as sharded ones do."""

    @contextlib.contextmanager
    def gradients(self, watched: Sequence[str]) -> Iterator[None]:
        weights = {id(linear.weight) for _, linear in linears(self.model, watched)}
        hidden = {p: p.grad for p in self.model.parameters() if id(p) not in weights}
        for parameter in hidden:
            parameter.grad = None
        yield
        for parameter, grad in hidden.items():
            parameter.grad = grad


@pytest.mark.parametrize("metric", ["mean_abs", "l2", "activation"])
def test_a_warm_up_that_trains_declares_all_gradients_that_it_looks_at(metric: str) -> None:
    chosen = []
    for kind in (TorchUpdater, Shy):
        method = methods.build("smt", {**CASES["smt"], "metric": metric}, 0.05, 0, STEPS)
        model = tiny_llama()
        step = Step("warmup", model, method, kind(model, method, method.warmup(model), OptimizerSettings(1e-2), 1.0))
        for number in (1, 2):
            step.take(number, [labelled(batch(number))], 1.0)
        method.attach(model)
        chosen.append(method.describe())
        assert step.watched == ([] if metric == "activation" else ["k_proj", "q_proj", "v_proj"])
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize("case", CASES)
def test_checkpointing_changes_no_loss(case: str) -> None:
    plain = run(build(case), tiny_llama())
    model = tiny_llama()
    model.train()
    enable_checkpointing(model)
    assert run(build(case), model) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_training_lowers_the_loss(case: str) -> None:
    model, method = tiny_llama(), build(case)
    method.steps = 30
    run(method, model, steps=30)
    method.merge(model)
    with torch.no_grad():
        after = sum(model(input_ids=batch(s), labels=batch(s)).loss.item() for s in range(1, 31))
        before = sum(tiny_llama()(input_ids=batch(s), labels=batch(s)).loss.item() for s in range(1, 31))
    assert after < before


@pytest.mark.parametrize("case", CASES)
def test_bf16_weights_train_through_float32(case: str) -> None:
    model = tiny_llama().to(torch.bfloat16)
    start = copy.deepcopy(model.state_dict())
    method = build(case)
    losses = run(method, model, lr=1e-3)
    assert all(torch.isfinite(torch.tensor(losses)))
    trainable = [p for p in model.parameters() if p.requires_grad]
    expected = torch.bfloat16 if case == "full" else torch.float32
    assert {p.dtype for p in trainable} == {expected}
    method.merge(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert any(not torch.equal(v, start[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("case", SPARSE)
@pytest.mark.parametrize("fraction", [0.9, 1e-9])
def test_impossible_fractions_are_refused_by_shapes_alone(case: str, fraction: float) -> None:
    method = build(case, fraction)
    if fraction < 1e-6 and case.startswith(("smt", "s2ft")):
        pytest.skip("one block, or one channel, is the smallest request they know")
    with pytest.raises(ValueError, match="choose"):
        method.capacity(shapes_of(tiny_llama()))


def test_unknown_names_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean lora"):
        methods.build("loraa", {}, 0.01, 0, 10)
    with pytest.raises(ValueError, match="rnk: unknown setting"):
        methods.build("lora", {"rnk": 8}, 0.01, 0, 10)
    with pytest.raises(ValueError, match="no o_projj"):
        methods.build("lora", {"targets": ["o_projj"]}, 0.01, 0, 10).capacity(shapes_of(tiny_llama()))


def test_published_counts_of_llama_7b() -> None:
    """SMT footnote 6 (514 blocks of 256 = 0.5 %) and the ranks behind 0.83 % and 0.84 %."""
    from smt_bench.models import build

    shapes = build.shapes("llama-7b")
    assert total_parameters(shapes) == 6_738_415_616
    smt = methods.build("smt", {}, 0.005, 0, 1000).capacity(shapes)
    assert (smt.units, smt.trainable) == (514, 33_685_504)
    lora = methods.build("lora", {}, 0.0083, 0, 1000).capacity(shapes)
    assert (lora.units, round(100 * lora.fraction, 2)) == (32, 0.83)
    dora = methods.build("dora", {}, 0.0084, 0, 1000).capacity(shapes)
    assert (dora.units, round(100 * dora.fraction, 3)) == (32, 0.846)  # printed as 0.84

"""The order of a method's hooks, wherever a step is taken; what a step clears, shows and refuses to go on with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import made_up
import pytest
import torch
from helpers import tiny_llama
from labelled import labelled
from torch import nn

from smt_bench.data.prompts import Encoded
from smt_bench.machine.spread import ALONE
from smt_bench.measuring.accountant import Accountant
from smt_bench.measuring.turns import Contestant
from smt_bench.methods.base import Capacity, Method, MethodConfig, OptimizerSettings, ParamGroup, Shapes
from smt_bench.methods.full import Full
from smt_bench.methods.modules import freeze
from smt_bench.records.outcome import Diverged
from smt_bench.training import optimizer
from smt_bench.training.instrument import REGIONS, Instrument
from smt_bench.training.loop import Loop
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.probes import Probe
from smt_bench.training.resume import Keeper
from smt_bench.training.step import PATIENCE, Step

WARMUP = {
    True: ["forward", "backward", "probe", "observe", "update"],
    False: ["forward", "backward", "probe", "observe"],
}
TUNING = ["before_step", "forward", "backward", "probe", "after_backward", "update", "after_step"]
SETTINGS = OptimizerSettings(1e-3)


class Recorder(Method):
    """Writes down what happens: its hooks, passes through the output layer, updates. Only the output layer trains."""

    name, version, summary, takes_fraction = "recorder", 1, "for this test", False

    def __init__(self, trains: bool, log: list[str]) -> None:
        super().__init__(MethodConfig(), None, 0, 4)
        self.trains, self.log = trains, log

    def capacity(self, shapes: Shapes) -> Capacity:
        raise NotImplementedError

    @property
    def warmup_steps(self) -> int:
        return 2

    def warmup(self, model: Any) -> list[ParamGroup]:
        self.log.append("warmup")
        freeze(model)
        model.lm_head.requires_grad_(True)
        model.lm_head.register_forward_hook(lambda *_: self.log.append("forward"))
        model.lm_head.weight.register_post_accumulate_grad_hook(lambda _: self.log.append("backward"))
        return [ParamGroup([model.lm_head.weight])] if self.trains else []

    def observe(self, model: Any, step: int) -> None:
        self.log.append("observe")
        assert model.lm_head.weight.grad is not None

    def attach(self, model: Any) -> list[ParamGroup]:
        self.log.append("attach")
        return [ParamGroup([model.lm_head.weight])]

    def optimizer(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        made = super().optimizer(groups, settings)
        made.register_step_pre_hook(lambda *_: self.log.append("update"))
        return made

    def before_step(self, model: nn.Module, step: int) -> None:
        self.log.append("before_step")

    def after_backward(self, model: Any, step: int) -> None:
        self.log.append("after_backward")
        assert model.lm_head.weight.grad is not None

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        self.log.append("after_step")

    def merge(self, model: nn.Module) -> None:
        raise NotImplementedError


class Look:
    """A probe that writes down when it looks."""

    watches: tuple[str, ...] = ("v_proj",)

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def observe(self, step: int) -> None:
        self.log.append("probe")

    def result(self) -> dict[str, Any]:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


def batch(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(seed))


def updater_of(method: Method, model: Any, groups: list[ParamGroup]) -> optimizer.Updater:
    return TorchUpdater(model, method, groups, SETTINGS, 1.0) if groups else FrozenUpdater(model)


def by_step(trains: bool, log: list[str], model: Any) -> None:
    method, probes = Recorder(trains, log), {"look": Look(log)}
    warmup = Step("warmup", model, method, updater_of(method, model, method.warmup(model)), probes)
    for number in (1, 2):
        warmup.take(number, [labelled(batch())], 1.0)
    tuning = Step("tuning", model, method, updater_of(method, model, method.attach(model)), probes)
    for number in (3, 4):
        tuning.take(number, [labelled(batch())], 1.0)


def by_loop(trains: bool, log: list[str], model: Any) -> None:
    ids = tuple(batch()[0].tolist())
    train = replace(made_up.run("full", None).train, steps=4, batch_size=2, micro_batch_size=2)
    loop = Loop(
        replace(made_up.run("full", None), train=train), model, Recorder(trains, log), [1] * 8,
        lambda _: Encoded(ids, ids), 0, torch.device("cpu"), lambda step, loss: None, Keeper(), ALONE,
    )  # fmt: skip
    loop.probes = {"look": Look(log)}
    loop.train(lambda: None)


def by_accountant(trains: bool, log: list[str], model: Any) -> None:
    ids = labelled(batch())
    run = Accountant(model, Recorder(trains, log), SETTINGS, ids.ids_BT, ids.labels_BT)
    run.warmup()
    run.attach()
    run.tuning()


def by_contestant(trains: bool, log: list[str], model: Any) -> None:
    contestant = Contestant("recorder", Recorder(trains, log), lambda: model)
    contestant.open(labelled(batch()), SETTINGS, False)
    assert set(contestant.count()) == {"forward", "backward"}
    assert all(seconds > 0 for seconds in contestant.step().values())


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("way", [by_step, by_loop, by_accountant, by_contestant])
def test_the_order_of_the_hooks_is_the_same_wherever_a_step_is_taken(
    way: Callable[[bool, list[str], Any], None], trains: bool
) -> None:
    log: list[str] = []
    way(trains, log, tiny_llama().train())
    warmup, tuning = list(WARMUP[trains]), list(TUNING)
    steps = 2
    first: list[str] = []
    if way in (by_accountant, by_contestant):
        warmup.remove("probe")
        tuning.remove("probe")
    if way is by_accountant:  # an update at rate 0 makes the optimizer's state; then one step of each stage
        steps, first = 1, ["update"]
    assert log == ["warmup", *first * trains, *warmup * steps, "attach", *first, *tuning * steps]


def test_hooks_stand_around_all_parts_of_a_step_and_regions_do_not_overlap() -> None:
    log: list[str] = []
    model = tiny_llama().train()
    method = Recorder(True, log)
    method.warmup(model)
    log.clear()

    class Regions(Instrument):
        def around(self, region: Any) -> Any:
            class Around:
                def __enter__(self) -> None:
                    log.append(f"<{region}")

                def __exit__(self, *_: object) -> None:
                    log.append(f"{region}>")

            return Around()

    parts = [labelled(row) for row in batch().split(1)]
    step = Step("tuning", model, method, updater_of(method, model, method.attach(model)), instrument=Regions())
    log.clear()
    step.take(1, parts, 1.0)
    part = ["<forward", "forward", "forward>", "<backward", "backward", "backward>"]
    assert log == [
        "<hooks", "before_step", "hooks>", *part * 2, "<hooks", "after_backward", "hooks>", "<clip", "clip>",
        "<optimizer", "update", "optimizer>", "<hooks", "after_step", "hooks>",
    ]  # fmt: skip
    assert {entry.strip("<>") for entry in log if entry.strip("<>") != entry} == set(REGIONS)


@pytest.mark.parametrize("trains", [True, False])
def test_every_step_clears_the_gradients(trains: bool) -> None:
    model = tiny_llama().train()
    method = Recorder(trains, [])
    step = Step("warmup", model, method, updater_of(method, model, method.warmup(model)))
    before = model.lm_head.weight.detach().clone()
    taken = step.take(1, [labelled(batch())], 1.0)
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(model.lm_head.weight, before) != trains
    assert (taken.norm is not None) == trains


def test_what_is_watched_is_what_method_and_probes_declare() -> None:
    class Sees(Full):
        watches = ("q_proj", "v_proj")

    model = tiny_llama()
    probe: Probe = Look([])
    assert Step("tuning", model, Sees(MethodConfig(), None, 0, 1), FrozenUpdater(model), {"look": probe}).watched == [
        "q_proj",
        "v_proj",
    ]


def test_a_loss_that_is_no_number_reaches_no_hook_and_moves_nothing() -> None:
    log: list[str] = []
    model = tiny_llama().train()
    method = Recorder(True, log)
    step = Step("warmup", model, method, updater_of(method, model, method.warmup(model)))
    model.model.norm.weight.data.fill_(math.nan)
    before = model.lm_head.weight.detach().clone()
    with pytest.raises(Diverged, match="loss is nan at step 7"):
        step.take(7, [labelled(batch())], 1.0)
    assert "observe" not in log and torch.equal(model.lm_head.weight, before)


def test_what_no_gradient_reaches_ends_the_run_and_what_is_reached_late_does_not() -> None:
    class Apart(Recorder):
        name = "apart"

        def attach(self, model: Any) -> list[ParamGroup]:
            self.extra = nn.Parameter(torch.zeros(3))
            model.register_parameter("extra", self.extra)
            return [ParamGroup([model.lm_head.weight.requires_grad_(True), self.extra])]

        def after_backward(self, model: Any, step: int) -> None:
            if step == self.reached:
                self.extra.grad = torch.ones(3)

    for reached in (PATIENCE, PATIENCE + 1):
        model, method = tiny_llama(), Apart(True, [])
        freeze(model)
        method.reached = reached
        updater = updater_of(method, model, method.attach(model))
        step = Step("tuning", model, method, updater)
        for number in range(1, PATIENCE):
            step.take(number, [labelled(batch())], 1.0)
        if reached == PATIENCE:
            step.take(PATIENCE, [labelled(batch())], 1.0)
            continue
        with pytest.raises(ValueError, match="apart: no gradient reached extra in 5 steps: choose other targets"):
            step.take(PATIENCE, [labelled(batch())], 1.0)

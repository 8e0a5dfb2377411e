"""A step's numbers against a naive version in float64; which updater a phase gets; which schedules and optimizers there are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import made_up
import pytest
import torch
from helpers import tiny_llama
from labelled import labelled
from torch import nn

from smt_bench.data.batches import Batch
from smt_bench.machine.files import write_text
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.methods.base import MethodConfig, OptimizerSettings, ParamGroup
from smt_bench.methods.full import Full
from smt_bench.records.runs import OPTIMIZERS, SCHEDULES, TrainRef
from smt_bench.records.store import Store
from smt_bench.records.trust import sealed
from smt_bench.training import optimizer, updaters
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater
from smt_bench.training.step import Step


def batch(seed: int) -> torch.Tensor:
    return torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(seed))


class Halves(Full):
    """Full fine-tuning whose second half of the tensors has a rate and a decay of its own."""

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        ((whole),) = super().attach(model)
        cut = len(whole.params) // 2
        return [ParamGroup(whole.params[:cut]), ParamGroup(whole.params[cut:], lr_scale=3.0, weight_decay=0.7)]


def uneven() -> list[Batch]:
    """Two parts with different numbers of labels."""
    whole = labelled(batch(5))
    labels_BT = whole.labels_BT.clone()
    labels_BT[1, :8] = -100
    cut = Batch(whole.ids_BT, labels_BT, int((labels_BT != -100).sum()), whole.tokens)
    return [labelled(batch(4)), cut]


@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_two_steps_equal_a_naive_version_in_float64(limit: float) -> None:
    """Pins the mean over all labels, clipping, factor, per-group rates, decay and both moments."""
    # eps far above float32's rounding of a gradient: below it, Adam magnifies that to whole steps, on some processors.
    lr, betas, eps, decay, factors = 1e-2, (0.8, 0.95), 1e-4, 0.1, (0.25, 1.0)
    model, naive = tiny_llama().train(), tiny_llama().double().train()
    method = Halves(MethodConfig(), None, 0, 2)
    updater = TorchUpdater(model, method, method.attach(model), OptimizerSettings(lr, betas, eps, decay), limit)
    step = Step("tuning", model, method, updater)
    weights = list(naive.parameters())
    means, squares = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for number, factor in enumerate(factors, start=1):
        taken = step.take(number, uneven(), factor)

        total, count = torch.zeros((), dtype=torch.float64), 0
        for part in uneven():
            logs = naive(input_ids=part.ids_BT).logits.log_softmax(-1)
            for b, t in (part.labels_BT != -100).nonzero().tolist():
                total = total - logs[b, t, part.labels_BT[b, t]]
                count += 1
        loss = total / count
        grads = torch.autograd.grad(loss, weights)
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads))
        assert taken.loss == pytest.approx(loss.item(), rel=1e-5) and taken.norm == pytest.approx(norm, rel=1e-4)
        assert taken.tokens == sum(part.tokens for part in uneven())
        assert (norm > limit) == (limit == 0.5)
        for position, (weight, grad, mean, square) in enumerate(zip(weights, grads, means, squares)):
            second = position >= len(weights) // 2
            rate = lr * factor * (3.0 if second else 1.0)
            grad = grad * min(1.0, limit / norm)
            mean.mul_(betas[0]).add_(grad, alpha=1 - betas[0])
            square.mul_(betas[1]).add_(grad * grad, alpha=1 - betas[1])
            with torch.no_grad():
                weight -= rate * (0.7 if second else decay) * weight
                weight -= rate * (mean / (1 - betas[0] ** number)) / ((square / (1 - betas[1] ** number)).sqrt() + eps)
    for ours, theirs in zip(model.parameters(), weights):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)


def test_sharded_only_where_everything_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(updaters, "ZeroUpdater", lambda *args: made.append(args) or "sharded")
    model, method = tiny_llama(), Full(MethodConfig(), None, 0, 1)
    everything, some = [ParamGroup(list(model.parameters()))], [ParamGroup([model.lm_head.weight])]
    train = replace(made_up.run("full", None).train, batch_size=9, micro_batch_size=4)
    assert updaters.updater_of(model, method, everything, train, Spread(2, zero=2)) == "sharded"
    assert made[0][-1] == 3  # backward passes per step
    assert type(updaters.updater_of(model, method, some, train, Spread(2, zero=2))) is TorchUpdater
    assert type(updaters.updater_of(model, method, everything, train, ALONE)) is TorchUpdater
    assert type(updaters.updater_of(model, method, [], train, Spread(2, zero=2))) is FrozenUpdater


def test_schedule_and_optimizer_decide_or_are_refused(tmp_path: Path) -> None:
    assert set(optimizer.SCHEDULES) == set(SCHEDULES) and OPTIMIZERS == ("adamw",)
    known: TrainRef = made_up.run("full", None).train
    store = Store(tmp_path)
    for field, value in (("schedule", "step"), ("optimizer", "lion")):
        with pytest.raises(ValueError, match=f"{field}='{value}': this version trains with") as refused:
            replace(known, **{field: value})
        assert "\n" not in str(refused.value)
        record = made_up.record("full", None)
        record["run"]["train"][field] = value
        path = store.path(record["key"])
        write_text(path, sealed(record))
        content = path.read_bytes()
        with pytest.raises(ValueError, match=f"record .*{record['key']}.json: {field}='{value}'"):
            store.read(record["key"])
        with pytest.warns(UserWarning, match=f"{field}='{value}'"):
            assert store.records() == []
        assert [p.name for p in store.runs.iterdir()] == [path.name] and path.read_bytes() == content

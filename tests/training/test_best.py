"""`--select best`: the weights of the lowest held-out loss are judged, looking changes no step, and a kill changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import SETTINGS, STEPS, question, session
from torch import nn

from smt_bench.execute import execute
from smt_bench.machine.signals import Stopped
from smt_bench.methods.full import Full
from smt_bench.questions.inputs import Inputs
from smt_bench.records import heldout
from smt_bench.records.runs import Run
from smt_bench.training.best import Best

CASES = [case for case in SETTINGS if case != "smt-frozen-matrices"]


def asked(case: str, select: str, rate: float = 30.0) -> tuple[Run, Inputs]:
    """At a rate that is much too high, so that the last weights are not the best."""
    run, inputs = question(case)
    every = 2 if select == "best" else 0
    return replace(run, train=replace(run.train, lr=run.train.lr * rate, select=select, select_every=every)), inputs


def parts(record: dict[str, Any]) -> tuple[Any, ...]:
    assert record["status"] == "done", (record["message"], record.get("traceback"))
    return tuple(record[part] for part in ("training", "selection", "method", "heldout", "evaluation"))


@pytest.mark.parametrize("case", CASES)
def test_the_best_weights_are_judged_and_kills_change_nothing(case: str, tmp_path: Path) -> None:
    run, inputs = asked(case, "best")
    best, last = execute(run, inputs), execute(*asked(case, "last"))
    assert best["training"]["losses"] == last["training"]["losses"]  # looking draws no number and moves no weight
    looked = best["selection"]
    assert looked["steps"][-1] == STEPS and len(looked["steps"]) >= 2 and "selection" not in last
    least = looked["nll"][looked["steps"].index(looked["kept"])]
    assert least == min(looked["nll"])
    found = heldout.nll(best, "tune")
    assert found is not None and math.isclose(found, least, rel_tol=1e-4)  # merged, against attached
    if looked["kept"] == STEPS:
        assert best["heldout"] == last["heldout"] and best["method"] == last["method"]
    else:
        assert best["heldout"] != last["heldout"]
    for stop in (3, 5):
        with pytest.raises(Stopped):
            session(run, inputs, tmp_path / str(stop), stop)
        again = session(run, inputs, tmp_path / str(stop), None)
        assert again["resumed_at_steps"] and parts(again) == parts(best)


def test_some_case_above_really_goes_back() -> None:
    kept = [execute(*asked(case, "best"))["selection"]["kept"] for case in ("full", "spiel")]
    assert all(step < STEPS for step in kept)


def test_micro_batches_and_one_look_per_step() -> None:
    run, inputs = asked("dora", "best")
    whole = replace(run, train=replace(run.train, micro_batch_size=8, select_every=1))
    split = replace(run, train=replace(run.train, micro_batch_size=2, select_every=1))
    a, b = (execute(r, inputs)["selection"] for r in (whole, split))
    assert a["steps"] == b["steps"] == list(range(1, STEPS + 1))
    assert len(set(a["nll"])) == STEPS


class Judge:
    def __init__(self, *losses: float) -> None:
        self.losses = list(losses)

    def __call__(self) -> float:
        return self.losses.pop(0)


def walk(losses: list[float], resume_at: int | None = None) -> tuple[nn.Linear, Best]:
    """A layer whose weight is the step, looked at after every step."""
    model, method = nn.Linear(1, 1), Full(Full.Config(), None, 0, len(losses))
    model.weight.data.fill_(0.0)
    best = Best(1, len(losses), Judge(*losses))
    best.begin(model)
    for step in range(1, len(losses) + 1):
        model.weight.data.fill_(float(step))
        best.look(step, model, method)
        if step == resume_at:
            state, best = best.state_dict(), Best(1, len(losses), Judge(*losses[step:]))
            start = nn.Linear(1, 1)
            start.load_state_dict(model.state_dict())
            start.weight.data.fill_(0.0)
            best.begin(start)
            best.load_state_dict(state)
    best.put_back(model, method)
    return model, best


@pytest.mark.parametrize("resume_at", [None, 1, 2, 3])
@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([3.0, 1.0, 2.0], 2),
        ([3.0, 2.0, 1.0], 3),
        ([1.0, 1.0, 1.0], 1),
        ([math.nan, 2.0, math.nan], 2),
        ([math.nan] * 3, 3),
    ],
)
def test_the_first_lowest_number_wins(losses: list[float], kept: int, resume_at: int | None) -> None:
    model, best = walk(losses, resume_at)
    assert best.result()["kept"] == kept and model.weight.item() == kept
    assert best.result()["nll"] == [None if math.isnan(loss) else loss for loss in losses]


def test_weights_that_cannot_be_put_back_are_an_error() -> None:
    model, method = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), Full(Full.Config(), None, 0, 2)
    model[1].requires_grad_(False)
    best = Best(1, 2, Judge(1.0, 2.0))
    best.begin(model)
    best.look(1, model, method)
    with torch.no_grad():
        model[1].weight.add_(1)  # after the best step only, by no one who says so
    best.look(2, model, method)
    with pytest.raises(RuntimeError, match=r"1.weight is not what it was at step 1"):
        best.put_back(model, method)

"""What the schedules mean, against transformers' own; where a tuning phase's schedule begins; what names keys keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from short_runs import question, result, session
from transformers import get_linear_schedule_with_warmup

from smt_bench import methods
from smt_bench.methods.smt.config import SmtConfig
from smt_bench.training.loop import Loop
from smt_bench.training.optimizer import SCHEDULES


def hf_factors(steps: int, warmup: int) -> list[float]:
    """The factors that transformers' schedule gives to the optimizer steps 1..steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@given(steps=st.integers(1, 60), data=st.data())
def test_linear_hf_is_transformers_and_linear_is_one_step_ahead_on_the_way_up(steps: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, steps - 1))
    theirs = hf_factors(steps, warmup)
    hf, ours = ([SCHEDULES[name](s, steps, warmup) for s in range(1, steps + 1)] for name in ("linear-hf", "linear"))
    assert hf == pytest.approx(theirs)
    assert ours[:warmup] == pytest.approx(theirs[1 : warmup + 1]) and ours[warmup:] == pytest.approx(theirs[warmup:])


def factors(config: dict[str, Any], schedule: str = "linear", steps: int = 400, warmup: int = 100) -> list[float]:
    """The factors of a run's steps, as the loop computes them."""
    run, _ = question("smt")
    train = replace(run.train, schedule=schedule, steps=steps, lr_warmup_steps=warmup)
    loop = Loop.__new__(Loop)  # no model: the factor needs the run and the method only
    loop.run, loop.method = replace(run, train=train), methods.build("smt", config, 0.01, 0, steps)
    first = loop.method.warmup_steps
    return [loop.factor("warmup" if s <= first else "tuning", s) for s in range(1, steps + 1)]


def test_tuning_on_math_starts_at_a_part_of_its_rate_or_afresh() -> None:
    continued, fresh = factors({"warmup_steps": 25}), factors({"warmup_steps": 25, "schedule": "fresh"})
    assert continued[25] == pytest.approx(0.26) and continued == [
        SCHEDULES["linear"](s, 400, 100) for s in range(1, 401)
    ]
    assert fresh[:25] == continued[:25]
    assert (
        fresh[25:] == pytest.approx(hf_factors(375, 0)) and fresh[25] == 1
    )  # the released code's second `get_scheduler`
    released = factors({"warmup_steps": 25, "schedule": "fresh"}, "linear-hf")
    assert released == pytest.approx(hf_factors(400, 100)[:25] + hf_factors(375, 0))


def test_the_choice_is_in_the_key_only_where_it_is_made() -> None:
    assert "schedule" not in SmtConfig().to_dict() and SmtConfig.from_dict({"schedule": "continued"}) == SmtConfig()
    assert SmtConfig.from_dict({"schedule": "fresh"}).to_dict()["schedule"] == "fresh"
    with pytest.raises(ValueError, match="schedule='new': choose from continued, fresh"):
        methods.build("smt", {"schedule": "new"}, 0.01, 0, 400)


def test_training_takes_the_schedule_of_its_own(tmp_path: Path) -> None:
    run, inputs = question("smt")
    other = replace(run, method=replace(run.method, config={**run.method.config, "schedule": "fresh"}))
    losses = [result(session(r, inputs, tmp_path / r.key, None))[0]["losses"] for r in (run, other)]
    first = run.method.config["warmup_steps"]
    assert losses[0][: first + 1] == losses[1][: first + 1] and losses[0][first + 1 :] != losses[1][first + 1 :]

"""An ETA is shown from the second step, also where a step takes minutes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from smt_bench.sweep.progress import Bars


@pytest.mark.parametrize("seconds", [0.1, 45.0, 600.0])
def test_two_steps_give_an_estimate(seconds: float) -> None:
    now = [0.0]
    bars = Bars(Console(file=io.StringIO(), force_terminal=True), total=1)
    bars._bars.get_time = lambda: now[0]
    bars.start("a run")
    for step in range(1, 4):
        now[0] += seconds
        bars.watch("train", step, 10)
        remaining = bars._bars.tasks[bars._one].time_remaining
        assert step == 1 or remaining == pytest.approx((10 - step) * seconds, abs=1.0)

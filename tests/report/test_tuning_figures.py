"""Figures of a tuning: axes that can be read whatever the search looked like."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
from matplotlib.figure import Figure

from smt_bench.report.tuning.curves import _log, tuning_curve


def test_a_band_is_made_without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended by a signal that a command takes over, a forked one would not end."""
    pytest.importorskip("opda")

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a pool of processes")

    monkeypatch.setattr(multiprocessing, "Pool", refused)
    point, _, high = tuning_curve([0.3, 0.2, 0.5, 0.4])
    assert len(point) == len(high) == 4 and point[-1] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (5e-6, 1e-2, [1e-5, 1e-4, 1e-3, 1e-2]),  # a search that was widened twice: threes between would meet the tens
        (1e-4, 1e-2, [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]),
        (0.2, 2.0, [0.2, 0.5, 1, 2]),
    ],
)
def test_a_log_scale_has_few_plain_numbers(low: float, high: float, shown: list[float]) -> None:
    for along in ("x", "y"):
        axes = Figure().add_subplot()
        axes.set(**{f"{along}lim": (low, high)})
        _log(axes, along)
        axis = axes.xaxis if along == "x" else axes.yaxis
        seen = [t for t in axis.get_majorticklocs() if low * 0.999 <= t <= high * 1.001]
        assert seen == pytest.approx(shown)
        assert axes.get_xscale() == ("log" if along == "x" else "linear")

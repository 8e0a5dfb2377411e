"""Signals wait for the end of a block that they must not enter."""

from __future__ import annotations

import signal

import pytest

from smt_bench.machine.signals import Stop, Stopped, deferred


def test_a_signal_waits_for_the_end_of_the_block() -> None:
    stop, reached = Stop(), []
    with stop.installed(), pytest.raises(Stopped), deferred():
        signal.raise_signal(signal.SIGTERM)
        reached.append(stop.asked)
    assert reached == [False] and stop.asked


def test_without_one_nothing_happens_and_handlers_are_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with deferred():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

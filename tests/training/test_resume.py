"""A run that is stopped in every phase ends with the numbers of an uninterrupted one; damage costs steps, not results."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from short_runs import SETTINGS, question, result, session

from smt_bench.execute import execute
from smt_bench.machine import parallel
from smt_bench.machine.signals import SAME, Stop, Stopped
from smt_bench.training.checkpoint import Checkpoints
from smt_bench.training.resume import Keeper, Pace


@pytest.mark.parametrize(
    ("case", "precision"),
    [(c, "fp32") for c in SETTINGS] + [(c, "bf16") for c in ("full", "smt", "spiel", "dora", "lt-sft")],
)
def test_stopped_in_every_phase_equals_uninterrupted(case: str, precision: str, tmp_path: Path) -> None:
    run, inputs = question(case, precision)
    expected = execute(run, inputs)
    for steps in (1, 2, 2):  # within the warm-up, at its end, within tuning
        with pytest.raises(Stopped):
            session(run, inputs, tmp_path / "c", steps)
    record = session(run, inputs, tmp_path / "c", None)
    assert result(record) == result(expected)
    assert record["resumed_at_steps"] == [1, 3, 5]
    assert record["memory_bytes"]["optimizer_state"] == expected["memory_bytes"]["optimizer_state"]


def test_a_damaged_checkpoint_is_named_and_the_older_one_used(tmp_path: Path) -> None:
    run, inputs = question("smt")
    expected = execute(run, inputs)
    with pytest.raises(Stopped):
        session(run, inputs, tmp_path, 5, Pace(steps=1))
    states = sorted(tmp_path.glob("0*.pt"))
    assert [p.name[:8] for p in states] == ["00000004", "00000005"]  # the last good one and the one before
    content = bytearray(states[1].read_bytes())
    content[len(content) // 2] ^= 1
    states[1].write_bytes(content)
    with pytest.warns(UserWarning, match=r"00000005.* set aside"):
        record = session(run, inputs, tmp_path, None)
    assert record["resumed_at_steps"] == [4]
    assert result(record) == result(expected)


def test_without_the_weights_after_the_warmup_the_run_starts_anew(tmp_path: Path) -> None:
    run, inputs = question("smt")
    expected = execute(run, inputs)
    with pytest.raises(Stopped):
        session(run, inputs, tmp_path, 5)
    (base,) = tmp_path.glob("base-*.pt")
    base.write_bytes(base.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="set aside"):
        record = session(run, inputs, tmp_path, None)
    assert "resumed_at_steps" not in record
    assert result(record) == result(expected)


def test_a_signal_waits_for_the_end_of_the_step_and_a_second_ctrl_c_does_not() -> None:
    stop = Stop()
    with stop.installed():
        with stop.held():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.asked
            with pytest.raises(Stopped):
                stop.check()
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the signal had no effect")
        child = os.fork()
        if not child:
            time.sleep(SAME)  # sooner it would be the same Ctrl-C, passed on
            with stop.held():
                os.kill(os.getpid(), signal.SIGINT)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130


def test_launchers_settings_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    run, inputs = question("smt")
    expected = execute(run, inputs)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert result(execute(run, inputs)) == result(expected)


def test_a_request_that_comes_while_processes_agree_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, inputs = question("smt")
    stop, agree, calls = Stop(), parallel.agreed, list[int]()

    def interrupted(*flags: bool) -> tuple[bool, ...]:
        answer = agree(*flags)
        calls.append(1)
        if len(calls) == 2:
            stop.request()
        return answer

    monkeypatch.setattr(parallel, "agreed", interrupted)
    with pytest.raises(Stopped):
        execute(run, replace(inputs, keeper=Keeper(Checkpoints(tmp_path / "c"), Pace(), stop)))
    assert len(calls) == 3

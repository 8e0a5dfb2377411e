"""Two processes on one run (gloo): the same result as one, every example judged once, failures told, states shared."""

from __future__ import annotations

import io
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import finish, group
from rich.console import Console
from short_runs import question, result

from smt_bench.execute import execute
from smt_bench.machine import parallel
from smt_bench.machine.signals import Stop
from smt_bench.machine.spread import Spread
from smt_bench.questions.inputs import Inputs
from smt_bench.records.runs import Run
from smt_bench.records.store import Store
from smt_bench.sweep.carry_out import check_shares
from smt_bench.sweep.locks import Locks
from smt_bench.sweep.together import sweep_together
from smt_bench.training.resume import Keeper, Pace

# Of a loss: where a gradient is all but 0, its last bit decides the direction of Adam's first step.
ROUNDING = 2e-5
CASES = (
    "full",
    "smt",
    "smt-frozen",
    "smt-frozen-matrices",
    "smt-activation",
    "smt-channels",
    "spiel",
    "spiel-ma",
    "fish",
    "lt-sft",
    "diff-pruning",
    "s2ft",
)


def solo(folder: Path, runs: list[Run], inputs: Inputs, **more: Any) -> None:
    together(0, folder, runs, inputs, **more)


def together(
    rank: int,
    folder: Path,
    runs: list[Run],
    inputs: Inputs,
    fails: bool = False,
    stops_at: int | None = None,
    dies_at: tuple[int, int] | None = None,
    zero: int = 0,
    offload: bool = False,
) -> None:
    """One process of a `run`; rank 1 may fail, or get a signal after a step; any may die (rank, step)."""
    stop, spread = Stop(), Spread(parallel.size(), zero=zero, offload=offload)
    _write_down_the_deltas(folder / "deltas", rank)

    def perform(run: Run, watch: Any, keeper: Keeper) -> Any:
        def seen(phase: str, done: int, total: int, note: str = "") -> None:
            if rank == 1 and fails:
                raise RuntimeError("only here")
            if phase == "train" and (rank, done) == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if rank == 1 and phase == "train" and done == stops_at:
                os.kill(os.getpid(), signal.SIGTERM)
            watch(phase, done, total, note)

        return execute(run, replace(inputs, watch=seen, keeper=keeper, spread=spread))

    with stop.installed():
        sweep_together(runs, Store(folder), perform, Console(file=io.StringIO()), stop, Pace(steps=1))


def _write_down_the_deltas(path: Path, rank: int) -> None:
    """Records do not hold SpIEL's indices: they are written when it merges."""
    from smt_bench.methods.spiel.method import Spiel

    merge = Spiel.merge

    def merging(self: Any, model: Any) -> None:
        if rank == 0:
            torch.save({name: layer.indices.clone() for name, layer in self.layers.items()}, path)
        merge(self, model)

    Spiel.merge = merging  # type: ignore[method-assign]


def records(folder: Path) -> dict[str, dict[str, Any]]:
    return {r["run"]["method"]["config"].__repr__() + r["run"]["method"]["name"]: r for r in Store(folder).records()}


@pytest.fixture(scope="module")
def asked() -> tuple[list[Run], Inputs]:
    found = [question(case) for case in CASES]
    return [run for run, _ in found], found[0][1]


@pytest.fixture(scope="module")
def alone(asked: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert finish(solo, folder, *asked) == 0
    return folder


@pytest.fixture(scope="module")
def paired(asked: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paired")
    children = group(2, together, folder, *asked)
    for child in children:
        child.join(300)
    assert [child.exitcode for child in children] == [0, 0]
    return folder


def test_two_processes_give_the_result_of_one(alone: Path, paired: Path) -> None:
    one, two = records(alone), records(paired)
    assert set(one) == set(two) and len(one) == len(CASES)
    for name, single in one.items():
        double = two[name]
        assert single["status"] == double["status"] == "done", double["message"]
        assert double["training"]["losses"] == pytest.approx(single["training"]["losses"], abs=ROUNDING)
        assert [Spread.from_dict(r["environment"]["spread"]) for r in (single, double)] == [Spread(1), Spread(2)]
        assert double["training"]["tokens"] == single["training"]["tokens"]
        if single["run"]["method"]["name"] in ("lt-sft", "diff-pruning"):
            # After three steps of Adam many differences are as large as others: the last bit decides which is chosen.
            counts = [r["method"]["deltas_per_target"] for r in (single, double)]
            assert counts[0] == pytest.approx(counts[1], rel=0.01)
            shares = [r["method"].get("gates_open", 1.0) for r in (single, double)]
            assert shares[0] == pytest.approx(shares[1], abs=1e-3)
        else:
            assert double["method"] == single["method"]  # SMT's blocks, SpIEL's ages
        assert double["heldout"]["nll"] == pytest.approx(single["heldout"]["nll"], abs=1e-4)
        for task, scores in single["evaluation"].items():
            examples, others = scores["examples"], double["evaluation"][task]["examples"]
            assert others["gold"] == examples["gold"] and others["prediction"] == examples["prediction"]
            assert others["loglik"] == pytest.approx(examples["loglik"], abs=1e-3)
            assert double["evaluation"][task]["accuracy"] == scores["accuracy"]


def test_spiel_moves_to_the_same_indices(alone: Path, paired: Path) -> None:
    one, two = torch.load(alone / "deltas"), torch.load(paired / "deltas")
    assert set(one) == set(two)
    for name in one:  # their order within a matrix is that of ties in a sort
        assert torch.equal(one[name].sort().values, two[name].sort().values)


def test_a_signal_to_one_process_stops_both_and_they_go_on_together(asked: Any, paired: Path, tmp_path: Path) -> None:
    runs, inputs = [asked[0][1]], asked[1]
    for step in (2, 4):
        children = group(2, stopped, tmp_path, runs, inputs, step)
        for child in children:
            child.join(300)
        assert [child.exitcode for child in children] == [130, 130]
    assert finish_group(together, tmp_path, runs, inputs) == [0, 0]
    (record,) = Store(tmp_path).records()
    assert record["resumed_at_steps"] == [2, 4]
    assert result(record) == result(Store(paired).read(record["key"]) or {})


def stopped(rank: int, folder: Path, runs: list[Run], inputs: Inputs, step: int) -> None:
    from smt_bench.machine.signals import Stopped
    from smt_bench.sweep.loop import Interrupted

    try:
        together(rank, folder, runs, inputs, stops_at=step)
    except (Interrupted, Stopped):
        os._exit(130)


def finish_group(*args: Any) -> list[int]:
    children = group(2, *args)
    for child in children:
        child.join(300)
    return [child.exitcode for child in children]


def test_a_failure_of_one_process_is_recorded_with_its_reason(asked: Any, tmp_path: Path) -> None:
    assert finish_group(together, tmp_path, asked[0][:1], asked[1], True) == [1, 1]
    (record,) = Store(tmp_path).records()
    assert (record["status"], record["message"]) == ("failed", "RuntimeError: only here")
    assert [p.suffix for p in Store(tmp_path).runs.iterdir()] == [".json"]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_run_whose_process_is_killed_has_not_failed_and_goes_on(
    victim: int, asked: Any, paired: Path, tmp_path: Path
) -> None:
    runs, inputs = [asked[0][1]], asked[1]
    children = group(2, together, tmp_path, runs, inputs, False, None, (victim, 4))
    for child in children:
        child.join(300)
    assert children[victim].exitcode == -signal.SIGKILL and children[1 - victim].exitcode == 1
    store = Store(tmp_path)
    assert store.records() == []
    assert Locks(store.runs).owner(runs[0].key)  # whoever started the processes sees what they were on
    assert finish_group(together, tmp_path, runs, inputs) == [0, 0]
    (record,) = Store(tmp_path).records()
    assert record["resumed_at_steps"] and result(record) == result(Store(paired).read(record["key"]) or {})


@pytest.mark.slow
@pytest.mark.parametrize(("zero", "offload"), [(2, False), (3, False), (2, True)])
def test_dense_phases_through_zero_give_the_same_result(
    zero: int, offload: bool, asked: Any, alone: Path, tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed", reason="the extra smt-bench[deepspeed] is not installed")
    runs, inputs = asked[0][:2], asked[1]  # full, and smt through both phases
    assert finish_group(sharded, tmp_path, runs, inputs, zero, offload) == [0, 0]
    one, two = records(alone), records(tmp_path)
    assert len(two) == 2
    for name, double in two.items():
        assert double["status"] == "done", double
        assert double["training"]["losses"] == pytest.approx(one[name]["training"]["losses"], abs=ROUNDING)
        assert double["training"]["grad_norms"] == pytest.approx(one[name]["training"]["grad_norms"], rel=1e-4)
        assert double["method"] == one[name]["method"]
        assert double["heldout"]["nll"] == pytest.approx(one[name]["heldout"]["nll"], abs=1e-4)


@pytest.mark.slow
def test_bf16_through_zero_differs_by_rounding_only(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="the extra smt-bench[deepspeed] is not installed")
    planned = [question(case, "bf16") for case in ("full", "smt")]
    runs, inputs = [run for run, _ in planned], planned[0][1]
    assert finish(solo, tmp_path / "one", runs, inputs) == 0
    assert finish_group(sharded, tmp_path / "two", runs, inputs, 2) == [0, 0]
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    for name, single in one.items():
        losses, others = single["training"]["losses"], two[name]["training"]["losses"]
        assert others[0] == losses[0] and others == pytest.approx(losses, rel=2e-2)
        assert Spread.from_dict(two[name]["environment"]["spread"]) == Spread(2, zero=2)


def sharded(
    rank: int,
    folder: Path,
    runs: list[Run],
    inputs: Inputs,
    zero: int,
    offload: bool = False,
    stops_at: int | None = None,
) -> None:
    """As `together`; afterwards no engine is alive."""
    import gc

    from smt_bench.machine.signals import Stopped
    from smt_bench.sweep.loop import Interrupted

    try:
        together(rank, folder, runs, inputs, stops_at=stops_at, zero=zero, offload=offload)
    except (Interrupted, Stopped):
        os._exit(130)
    gc.collect()
    from deepspeed import DeepSpeedEngine

    assert not [o for o in gc.get_objects() if isinstance(o, DeepSpeedEngine)], "an engine is still alive"


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_sharded_phases_are_resumed_with_any_number_of_processes(
    stage: int, asked: Any, alone: Path, tmp_path: Path
) -> None:
    pytest.importorskip("deepspeed", reason="the extra smt-bench[deepspeed] is not installed")
    runs, inputs = asked[0][:2], asked[1]
    assert finish_group(sharded, tmp_path, runs, inputs, stage, False, 2) == [130, 130]  # within full fine-tuning
    assert finish_group(sharded, tmp_path, runs, inputs, stage, False, 4) == [130, 130]
    assert finish(solo, tmp_path, runs, inputs) == 0
    one, two = records(alone), records(tmp_path)
    for name, resumed in two.items():
        assert resumed["training"]["losses"] == pytest.approx(one[name]["training"]["losses"], abs=ROUNDING)
    assert max(len(r.get("resumed_at_steps", [])) for r in two.values()) == 2


def test_too_many_processes_are_refused(asked: Any) -> None:
    with pytest.raises(ValueError, match="a micro-batch has 4 examples"):
        check_shares(asked[0], Spread(5))


def test_shares_come_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [list(range(7))[rank::3] for rank in range(3)]
    assert parallel.merge(shares) == list(range(7))
    assert json.loads(json.dumps(parallel.merge([[None], []]))) == [None]

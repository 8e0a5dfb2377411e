"""Is the machine large enough? Against the counts of `plan`, and in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from short_runs import question

from smt_bench import experiments
from smt_bench.cli.run import _do as do
from smt_bench.machine.fits import GB, Machine, check, share_bytes
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.records.store import Store
from smt_bench.sweep.carry_out import How
from smt_bench.sweep.slurm import Allocation

P = 6_738_415_616
A100 = (40 * 2**30,) * 4
LARGE = (80 * 2**30,) * 4
SMALL = (24 * 2**30,) * 4


@pytest.mark.parametrize(
    ("gpus", "spread", "remedy"),
    [
        (A100, ALONE, None),  # layers spread over all
        (A100, Spread(4, zero=3), None),
        (LARGE, Spread(4, zero=2), None),
        (A100, Spread(4), "in 4 processes needs 137 GB on each GPU .* the smallest has 43 GB: add --zero 3"),
        (LARGE, Spread(4), "add --zero 2"),
        (A100, Spread(4, zero=2), "in 4 processes with ZeRO-2 needs .* add --zero 3"),
        (SMALL, Spread(4, zero=3), "choose larger GPUs"),
        (SMALL, Spread(4, zero=3, offload=True), None),
    ],
)
def test_data_parallel_processes_need_their_share_on_every_gpu(
    gpus: tuple[int, ...], spread: Spread, remedy: str | None
) -> None:
    if remedy is None:
        check("llama-7b", P, ["full", "smt"], ["lora"], Machine(gpus, 0), spread)
        return
    with pytest.raises(ValueError, match=remedy) as error:
        check("llama-7b", P, ["full", "smt"], ["lora"], Machine(gpus, 0), spread)
    assert "\n" not in str(error.value)


def test_the_rule_is_near_what_plan_counts() -> None:
    # results/reference/plan/plateau/llama-7b: full fine-tuning, ZeRO-3 over four GPUs, 34.2 GB
    assert share_bytes(P, True, "bf16", Spread(4, zero=3)) / GB == pytest.approx(34.2, rel=0.1)


def test_sparse_methods_need_the_model_in_every_process() -> None:
    check("llama-7b", P, [], ["lora"], Machine(A100, 0), Spread(4))
    with pytest.raises(ValueError, match="every process holds the model"):
        check("llama-7b", P, [], ["lora"], Machine((12 * 2**30,) * 4, 0), Spread(4))


def test_only_the_gpus_of_one_run_count() -> None:
    check("llama-7b", P, ["full"], [], Machine(A100, 0), Spread(gpus_per_run=4))
    with pytest.raises(ValueError, match=r"found:  2 GPU \(43 GB, 43 GB\), 0 GB of main memory for each run"):
        check("llama-7b", P, ["full"], [], Machine(A100, 0), Spread(gpus_per_run=2))


def test_without_gpus_every_process_needs_the_memory() -> None:
    machine = Machine((), 2 * 10**9)
    check("small", 10**8, ["full"], [], machine, ALONE)
    with pytest.raises(ValueError, match="needed: 3.2 GB of memory"):
        check("small", 10**8, ["full"], [], machine, Spread(2))


def test_a_command_of_several_experiments_leaves_what_is_measured_out_on_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = question("smt")[0]
    planner: Any = SimpleNamespace(left_out={}, request=SimpleNamespace(family="commonsense"))
    part: Any = SimpleNamespace(
        left_out={}, experiment=experiments.find("break-even"), planner=planner, planned=[(run, None)], place=tmp_path
    )
    how = How(Spread(4, gpus_per_run=4), cluster=Allocation())
    assert do(part, Store(tmp_path), how, True) == 0
    assert "note: break-even is measured on one machine: left out" in capsys.readouterr().err

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
from smt_bench.records.store import Store
from smt_bench.sweep.carry_out import How
from smt_bench.sweep.slurm import Allocation

P = 6_738_415_616
A100 = (40 * 2**30,) * 4
LARGE = (80 * 2**30,) * 4


@pytest.mark.parametrize(
    ("machine", "remedy"),
    [
        (Machine(A100, 0), None),  # one process: layers spread over all
        (Machine(A100, 0, 4, 3), None),
        (Machine(LARGE, 0, 4, 2), None),
        (Machine(A100, 0, 4), "137 GB on each GPU .* the smallest has 43 GB: add --zero 3"),
        (Machine(LARGE, 0, 4), "add --zero 2"),
        (Machine(A100, 0, 4, 2), "add --zero 3"),
        (Machine((24 * 2**30,) * 4, 0, 4, 3), "choose larger GPUs"),
        (Machine((24 * 2**30,) * 4, 0, 4, 3, True), None),
    ],
)
def test_data_parallel_processes_need_their_share_on_every_gpu(machine: Machine, remedy: str | None) -> None:
    if remedy is None:
        check("llama-7b", P, ["full", "smt"], ["lora"], machine)
        return
    with pytest.raises(ValueError, match=remedy) as error:
        check("llama-7b", P, ["full", "smt"], ["lora"], machine)
    assert "\n" not in str(error.value)


def test_the_rule_is_near_what_plan_counts() -> None:
    # results/reference/plan/plateau/llama-7b: full fine-tuning, ZeRO-3 over four GPUs, 34.2 GB
    assert share_bytes(P, True, "bf16", 4, 3, False) / GB == pytest.approx(34.2, rel=0.1)


def test_sparse_methods_need_the_model_in_every_process() -> None:
    check("llama-7b", P, [], ["lora"], Machine(A100, 0, 4))
    with pytest.raises(ValueError, match="every process holds the model"):
        check("llama-7b", P, [], ["lora"], Machine((12 * 2**30,) * 4, 0, 4))


def test_a_command_of_several_experiments_leaves_what_is_measured_out_on_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = question("smt")[0]
    planner: Any = SimpleNamespace(request=SimpleNamespace(family="commonsense"))
    part: Any = SimpleNamespace(
        experiment=experiments.find("break-even"), planner=planner, planned=[(run, None)], place=tmp_path
    )
    wanted = Allocation(None, "1:00:00", 1, 4, 4)
    assert do(part, Store(tmp_path), How(), wanted, True) == 0
    assert "note: break-even is measured on one machine: left out" in capsys.readouterr().err

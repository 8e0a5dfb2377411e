"""Is the machine large enough? Against the counts of `plan`, and in one line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from short_runs import question

from smt_bench import experiments
from smt_bench.cli.legs import announce, do
from smt_bench.machine.fits import GB, Machine, check, lacking, share_bytes
from smt_bench.machine.spread import ALONE, Spread
from smt_bench.machine.states import Demand
from smt_bench.records.store import Store
from smt_bench.sweep.carry_out import How
from smt_bench.sweep.slurm import Allocation

P = 6_738_415_616
A100 = (40 * 2**30,) * 4
LARGE = (80 * 2**30,) * 4
SMALL = (24 * 2**30,) * 4
FULL = Demand("full", P, 0, True)
SMT = Demand("smt", P, P // 100, True)
LORA = Demand("lora", P, P // 100, False)


@pytest.mark.parametrize(
    ("gpus", "spread", "remedy"),
    [
        (A100, ALONE, None),  # layers spread over all
        (A100, Spread(4, zero=3), None),
        (LARGE, Spread(4, zero=2), None),
        (A100, Spread(4), "in 4 processes needs 111 GB on each GPU .* the smallest has 43 GB: add --zero 3"),
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
        check("llama-7b", [FULL, SMT, LORA], Machine(gpus, 0), spread)
        return
    with pytest.raises(ValueError, match=remedy) as error:
        check("llama-7b", [FULL, SMT, LORA], Machine(gpus, 0), spread)
    assert "\n" not in str(error.value)


def test_the_rule_is_near_what_plan_counts() -> None:
    # results/reference/plan/plateau/llama-7b: full fine-tuning, ZeRO-3 over four GPUs, 34.2 GB
    assert share_bytes(FULL, "bf16", Spread(4, zero=3)) / GB == pytest.approx(34.2, rel=0.1)


def test_one_card_holds_what_is_alive_and_no_more() -> None:
    """LLaMA-7B: 16 bytes a parameter where the optimizer steps in chunks, 8 with bf16 Adam, 2 for sparse methods."""
    assert FULL.states("bf16") == 16 * P + 2 * 2**27 and FULL.states("fp32") == 16 * P
    assert FULL.states("bf16", "bf16") == 8 * P
    assert LORA.states("bf16") == 2 * P + 16 * (P // 100)
    assert Demand("spiel", P, P // 20, False, 44).states("bf16") > 2 * LORA.states("bf16") * 0.9
    h100, h200, card = Machine((80 * 2**30,), 0), Machine((141 * 2**30,), 0), Machine((24 * 2**30,), 0)
    assert lacking(FULL, h100, "bf16") and lacking(FULL, h100, "bf16", "bf16") is None
    assert lacking(FULL, h200, "bf16") is None and lacking(LORA, card, "bf16") is None
    check("llama-7b", [FULL], h200, ALONE)
    assert lacking(Demand("lora", P, P // 2, False), card, "bf16")  # the fraction counts


def test_activations_grow_with_the_tokens_of_a_forward_pass() -> None:
    assert share_bytes(LORA, "bf16", Spread(2), 8192) - share_bytes(LORA, "bf16", Spread(2)) == pytest.approx(3 * GB)
    card = Machine((24 * 2**30,), 0)
    check("llama-7b", [LORA], card, ALONE)
    with pytest.raises(ValueError, match="does not fit this machine"):
        check("llama-7b", [LORA], card, ALONE, tokens=16 * 512)
    with pytest.raises(ValueError, match="the smallest has 26 GB"):
        check("llama-7b", [LORA], Machine((24 * 2**30,) * 2, 0), Spread(2), tokens=32 * 512)


def test_the_beams_of_one_prompt_have_to_fit_too() -> None:
    card = Machine((24 * 2**30,), 0)
    check("llama-7b", [LORA], card, ALONE, judging=GB)
    with pytest.raises(ValueError, match="does not fit this machine"):
        check("llama-7b", [LORA], card, ALONE, judging=20 * GB)
    with pytest.raises(ValueError, match="the smallest has 26 GB"):
        check("llama-7b", [LORA], Machine((24 * 2**30,) * 2, 0), Spread(2), judging=20 * GB)


def test_sparse_methods_need_the_model_in_every_process() -> None:
    check("llama-7b", [LORA], Machine(A100, 0), Spread(4))
    with pytest.raises(ValueError, match="every process holds the model"):
        check("llama-7b", [LORA], Machine((12 * 2**30,) * 4, 0), Spread(4))


def test_only_the_gpus_of_one_run_count() -> None:
    check("llama-7b", [FULL], Machine(A100, 0), Spread(gpus_per_run=4))
    with pytest.raises(ValueError, match=r"found:  2 GPU \(43 GB, 43 GB\), 0 GB of main memory for each run"):
        check("llama-7b", [FULL], Machine(A100, 0), Spread(gpus_per_run=2))


def test_without_gpus_every_process_needs_the_memory() -> None:
    machine = Machine((), 2 * 10**9)
    check("small", [Demand("full", 10**8, 0, True)], machine, ALONE)
    with pytest.raises(ValueError, match="needed: 3.2 GB of memory"):
        check("small", [Demand("full", 10**8, 0, True)], machine, Spread(2))


def test_a_command_of_several_experiments_leaves_what_is_measured_out_on_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = question("smt")[0]
    planner: Any = SimpleNamespace(left_out={}, request=SimpleNamespace(family="commonsense"))
    part: Any = SimpleNamespace(
        left_out={}, experiment=experiments.find("break-even"), planner=planner, planned=[(run, None)], place=tmp_path
    )
    how = How(Spread(4, gpus_per_run=4), cluster=Allocation())
    assert do(part, announce(part, Store(tmp_path)), Store(tmp_path), how, True) == 0
    assert "note: break-even is measured on one machine: left out" in capsys.readouterr().err

"""What `plan` says checkpoints take on disk, against the files of real runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_runs import STEPS, question, session

from smt_bench.plan.dry import Workload
from smt_bench.plan.dry_runs import DryRuns
from smt_bench.plan.rows import disk_bytes
from smt_bench.training.resume import Pace

PARAMETERS = 2_042_304
OVERHEAD = 130_000  # names, and the archive's padding of each tensor


@pytest.mark.parametrize(
    ("case", "precision", "step"),
    [("full", "fp32", 5), ("full", "bf16", 5), ("smt", "fp32", 2), ("spiel", "fp32", 5), ("dora", "fp32", 5)],
)
def test_a_state_takes_what_was_planned(case: str, precision: str, step: int, tmp_path: Path) -> None:
    run, inputs = question(case, precision)
    with pytest.raises(KeyboardInterrupt):
        session(run, inputs, tmp_path / "c", step, Pace())
    (state,) = (tmp_path / "c").glob("*.pt")
    dry = DryRuns(Workload("tiny", 8, 32, precision, False))
    planned = dry.run(run.method.name, run.method.config, run.method.fraction, STEPS).saved
    stage = "warmup" if case == "smt" else "tuning"
    assert planned[stage] <= state.stat().st_size <= planned[stage] + OVERHEAD


def test_a_run_whose_warm_up_trains_needs_the_warm_ups_states_most(tmp_path: Path) -> None:
    run, _ = question("smt")
    dry = DryRuns(Workload("tiny", 8, 32, "fp32", False)).run("smt", run.method.config, run.method.fraction, STEPS)
    assert disk_bytes(dry, 4 * PARAMETERS) == 3 * dry.saved["warmup"] > 4 * PARAMETERS + 3 * dry.saved["tuning"]
    dry.saved["warmup"] = 0
    assert disk_bytes(dry, 4 * PARAMETERS) == 4 * PARAMETERS + 3 * dry.saved["tuning"]

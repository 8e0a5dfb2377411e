"""Launchers that people already use start a run's processes: the record is that of `--processes 2`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from smt_bench.machine.spread import Spread
from smt_bench.records.store import Store

RUN = ["run", "plateau", "--preset", "smoke", "--methods", "smt", "--steps", "6", "--limit", "2", "--results", "r"]
RUNNER = [sys.executable, "-m"]
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
                   "--mixed_precision=no", "--dynamo_backend=no", "-m"],
    "deepspeed": ["deepspeed.launcher.runner", "--num_gpus=2", "--module"],
}  # fmt: skip


def record(place: Path, command: list[str]) -> dict[str, Any]:
    place.mkdir()
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = Store(place / "r").records()
    assert found["environment"]["spread"] == Spread(2).to_dict()
    return {part: found[part] for part in ("key", "status", "training", "method", "heldout", "evaluation")}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return record(tmp_path_factory.mktemp("own") / "p", [*RUNNER, "smt_bench", *RUN, "--processes", "2"])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_starts_the_processes(launcher: str, own: dict[str, Any], tmp_path: Path) -> None:
    if launcher == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("the extra smt-bench[deepspeed] is not installed")
    assert record(tmp_path / "p", [*RUNNER, *LAUNCHERS[launcher], "smt_bench", *RUN]) == own

"""`--deterministic`: what it sets, that records say so, that a CPU's numbers stay. There was no GPU to see bits repeat on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from helpers import ROOT

from smt_bench.machine import determinism, facts

CODE = """
import json, sys
from short_runs import question, result
from smt_bench.execute import execute
from smt_bench.machine import determinism

if sys.argv[1] == "on":
    determinism.switch_on()
found = {}
for case, precision in (("spiel", "bf16"),):
    record = execute(*question(case, precision))
    found[case] = [result(record), record["environment"]]
print(json.dumps(found))
"""


def test_on_a_cpu_it_changes_no_number_and_the_record_says_what_was_set() -> None:
    places = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    env = {k: v for k, v in os.environ.items() if k != determinism.WORKSPACE} | {"PYTHONPATH": places}
    said = {}
    for switch in ("on", "off"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CODE, switch], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said[switch] = json.loads(done.stdout.splitlines()[-1])
    for case, (numbers, environment) in said["on"].items():
        assert numbers == said["off"][case][0]
        assert environment["deterministic"] and environment["cublas_workspace"] == ":4096:8"
        assert environment["attention_kernels"] == ["flash", "math"]
        plain = said["off"][case][1]
        assert not plain["deterministic"] and plain["cublas_workspace"] is None
        assert plain["repeatable"] == environment["repeatable"] == "bit by bit", "a CPU needs none of it"


@pytest.mark.parametrize(("asked", "said"), [(False, "not bitwise repeatable"), (True, "bit by bit")])
def test_a_record_made_on_a_gpu_says_whether_its_bits_come_again(
    asked: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: asked)
    assert facts.numerics()["repeatable"] == said

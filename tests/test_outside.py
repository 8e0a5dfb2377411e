"""A method and a data family from an installed package of somebody else: run, tabled and drawn like ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

GUIDE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)  # the method of the guide
ENTRY_POINTS = """\
[smt_bench.methods]
top-values = their_package:TopValues
top-layers = my_package:TopLayers
[smt_bench.families]
weather = their_package:weather
"""
PACKAGE = '''\
"""Somebody's method and data family."""

from __future__ import annotations

from dataclasses import dataclass

from smt_bench.data.families import Family, Task
from smt_bench.methods.base import Capacity, Method, MethodConfig, ParamGroup
from smt_bench.methods.modules import freeze, numel, targeted, total_parameters


@dataclass(frozen=True)
class TopSettings(MethodConfig):
    """stop_after: steps in which it trains."""

    stop_after: int = 1


class TopValues(Method):
    """Trains V of the uppermost layers."""

    name = "top-values"
    version = 1
    summary = "V of the uppermost layers"
    title = "Top-V"
    look = ("#AA3377", "H")
    default_lr = 0.004
    Config = TopSettings

    @classmethod
    def recipe(cls, steps, given):
        return {"stop_after": 3 * steps // 4, **given}

    def capacity(self, shapes):
        matrices, total = targeted(shapes, ["v_proj"]), total_parameters(shapes)
        size = numel(next(iter(matrices.values())))
        count = max(1, min(len(matrices), round(self.fraction * total / size)))
        return Capacity("matrices", count, count * size, size, total)

    def attach(self, model):
        weights = [p for n, p in model.named_parameters() if n.endswith("v_proj.weight")]
        count = self.capacity({n: tuple(p.shape) for n, p in model.named_parameters()}).units
        freeze(model)
        for weight in weights[-count:]:
            weight.requires_grad_(True)
        return [ParamGroup(weights[-count:])]

    def after_backward(self, model, step):
        for parameter in model.parameters():
            if parameter.grad is not None and step > self.config.stop_after:
                parameter.grad.zero_()

    def merge(self, model):
        pass


def weather():
    return Family(
        "weather", "Weather", (Task("rain", ("wet", "dry"), "Rain?"), Task("sky", ("blue", "grey", "black"), "Sky"))
    )
'''


def records(options: tuple[str, ...], question: str, count: int) -> str:
    made = []
    for i in range(count):
        answer = options[i % len(options)]
        form = f"{question} {i}?\n\nAnswer format: {'/'.join(options)}"
        made.append({"instruction": form, "input": "", "output": f"the correct answer is {answer}", "answer": answer})
    return json.dumps(made)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with their package, as an installer leaves it, and their data."""
    (tmp_path / "site" / "their_package-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "their_package.py").write_text(PACKAGE)
    (tmp_path / "site" / "my_package.py").write_text(EXAMPLE[0])
    metadata = tmp_path / "site" / "their_package-1.0.dist-info"
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    for task, options in (("rain", ("wet", "dry")), ("sky", ("blue", "grey", "black"))):
        folder = tmp_path / "data" / "dataset" / task
        folder.mkdir(parents=True)
        (folder / "train.json").write_text(records(options, f"What of the {task} on day", 60))
        (folder / "test.json").write_text(records(options, f"And the {task} on day", 12))
    return tmp_path


def python(place: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, which finds their package on its path."""
    where = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(place / "site")])}
    command = [sys.executable, *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, env={**os.environ, **where}, check=False)


def test_their_method_on_their_data_in_our_table_and_figure(place: Path) -> None:
    done = python(
        place, "-m", "smt_bench", "run", "plateau", "--model", "tiny", "--preset", "smoke", "--tasks", "rain,sky",
        "--methods", "top-values,top-layers,lora", "--data", "data",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = place / "results" / "plateau" / "tiny" / "weather"
    table = (made / "table3.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert rows[2:] == ["LoRA", "Top layers", "Top-V"]
    assert "mean over 2 tasks (Rain?, Sky)" in table and "rain+sky" in table
    figure = (made / "figure9.svg").read_text(encoding="utf-8")
    assert "<!-- Top-V -->" in figure and "#aa3377" in figure.lower()
    runs = [json.loads(path.read_text(encoding="utf-8"))["run"] for path in (place / "results" / "runs").glob("*.json")]
    theirs = next(run for run in runs if run["method"]["name"] == "top-values")
    assert theirs["data"]["family"] == "weather" and set(theirs["evaluation"]["tasks"]) == {"rain", "sky"}
    assert theirs["method"]["config"] == {"stop_after": 6} and theirs["train"]["lr"] == 0.004


def test_the_guides_method_is_short_and_is_named_as_the_guide_says() -> None:
    assert len(EXAMPLE) == 1 and len(EXAMPLE[0].splitlines()) < 40
    assert 'top-layers = "my_package:TopLayers"' in GUIDE and '[project.entry-points."smt_bench.methods"]' in GUIDE


SEVERAL = """\
import json, sys
from smt_bench.cli.app import main
for args in json.loads(sys.argv[1]):
    sys.argv = ["smt_bench", *args]
    try:
        main()
    except SystemExit as end:
        print(f"exit code {end.code}", file=sys.stderr)
"""
WRONG = {
    "unknown task 'rian': did you mean 'rain'?": ("run", "plateau", "--tasks", "rian"),
    "unknown method 'top-value': did you mean top-values?": ("run", "plateau", "--methods", "top-value"),
    "data family weather is not embedded: pass its folder with --data": ("run", "plateau", "--tasks", "rain"),
    "--tasks rain,boolq: commonsense and weather tasks need a run each": ("run", "plateau", "--tasks", "rain,boolq"),
    "data family weather cannot be downloaded: pass its folder with --data": ("fetch", "weather"),
    "data family weather does not say how many training records": ("plan", "plateau", "--tasks", "rain"),
}


def test_what_is_wrong_with_theirs_is_one_line_and_exit_code_2(place: Path) -> None:
    done = python(place, "-c", SEVERAL, json.dumps(list(WRONG.values())))
    said = done.stderr.strip().splitlines()
    assert said[1::2] == ["exit code 2"] * len(WRONG), done.stderr
    for message, line in zip(WRONG, said[::2]):
        assert line.startswith(f"error: {message}")
    assert not (place / "results").exists()

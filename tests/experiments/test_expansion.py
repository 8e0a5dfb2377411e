"""The experiments of the SMT paper expand from shapes, with the paper's numbers, and share runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smt_bench import experiments
from smt_bench.data.datasets import DataSet
from smt_bench.data.prompts import Example
from smt_bench.experiments.choices import warmup
from smt_bench.machine import fits
from smt_bench.models.locate import Located
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.parts import plan_parts, union
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import ModelRef
from smt_bench.records.store import Store

MEMBERS = [member.name for member in experiments.members("paper")]
TRAINING = [name for name in MEMBERS if isinstance(experiments.find(name), TrainingExperiment)]


def planner(model: str, family: str = "commonsense", **changes: Any) -> Planner:
    """A planner that has seen no file: shapes only, and made-up data."""
    made = Planner(Request("paper", model, default_family=family, **changes), fits.here())
    example = Example("q", "", "a", "true")
    task = {"commonsense": "boolq", "math": "gsm8k"}[family]
    made.data = DataSet(family, "made up", [example] * 170_300, [example], {task: [example]})
    made.data.__dict__["train_sha256"] = "ab" * 8  # 170,300 times the same need no hash
    made.located = Located(ModelRef(model, "r", "hub"), Path())
    made.opened = True
    return made


@pytest.mark.parametrize("model", ["tiny", "smollm2-135m", "llama3-8b"])
def test_everything_expands_from_shapes_with_unique_keys(model: str) -> None:
    planners = {family: planner(model, family) for family in ("commonsense", "math")}
    seen: dict[str, set[str]] = {}
    for name in MEMBERS:
        module: Any = experiments.find(name)
        for family in module.families:
            own = planners[family]
            module.method_names(own)
            module.check(own)
            planned = module.runs(own)
            keys = [run.key for run, _ in planned]
            assert keys and len(keys) == len(set(keys)), name
            seen[f"{name} {family}"] = set(keys)
            if name == "qkv":
                assert len({capacity.trainable for _, capacity in planned}) == 1 and len(keys) == 4
                assert len(module.runs(planner(model, seeds=(0, 1)))) == 8
    grid = seen["plateau commonsense"]
    assert seen["commonsense commonsense"] == grid and seen["anatomy commonsense"] <= grid
    for name in ("qkv", "allocation", "block-metric", "selection", "block-size"):
        assert len(seen[f"{name} commonsense"] & grid) >= 1, f"{name} shares no run with the plateau"


def test_the_papers_numbers_on_the_papers_models() -> None:
    own = planner("llama-7b")
    fractions = {
        name: {run.method.fraction for run, _ in experiments.find(name).runs(own)}
        for name in TRAINING
        if name != "math10k"
    }
    assert fractions["qkv"] == fractions["block-size"] == {0.0084} and fractions["warmup"] == {0.035}
    assert fractions["selection"] == {0.0084, 0.0491}
    steps = {run.method.config["warmup_steps"] for run, _ in warmup.Warmup().runs(own)}
    sides = {run.method.config["block_size"] for run, _ in experiments.find("block-size").runs(own)}
    assert steps == {30, 70, 100, 130, 160} and sides == {4096, 256, 128, 64, 32}


def test_parts_share_planners_and_name_what_cannot_be_done(tmp_path: Path) -> None:
    said: list[str] = []
    modules = [experiments.find(name) for name in ("plateau", "commonsense", "qkv", "math10k")]
    request = Request("paper", "tiny", tasks=("facts-2",), preset="smoke")
    parts = plan_parts(modules, request, fits.here(), Store(tmp_path), False, said.append)
    assert [p.experiment.name for p in parts] == ["plateau", "commonsense", "qkv"] and parts[0].planner is parts[
        2
    ].planner
    assert len(said) == 1 and said[0].startswith("note: math10k (commonsense) left out: --tasks facts-2")
    assert len(union(parts)) == sum(len(p.planned) for p in parts) - len(parts[1].planned)
    with pytest.raises(ValueError, match="qkv is about smt alone"):
        plan_parts(
            modules[2:3],
            Request("qkv", "tiny", methods=("lora",)),
            fits.here(),
            Store(tmp_path),
            False,
            said.append,
        )
    with pytest.raises(ValueError, match="does not exist"):
        plan_parts(modules, Request("paper", "tiny", data="nowhere"), fits.here(), Store(tmp_path), False, said.append)


ALL = [name for name in experiments.REGISTRY.names() if isinstance(experiments.REGISTRY.find(name), TrainingExperiment)]


@pytest.mark.parametrize("name", ALL)
def test_an_untouched_model_is_judged_once_or_refused(name: str) -> None:
    module: Any = experiments.find(name)
    said: list[str] = []
    request = Request(name, "tiny", methods=("base", "lora"), preset="smoke", tunes=module.tunes)
    own = Planner(replace(request, default_family=module.families[0]), fits.here(), say=said.append)
    try:
        module.method_names(own)
        module.check(own)
        own.open()
        planned = [run.to_dict() for run, _ in module.runs(own) if run.method.name == "base"]
    except ValueError as error:  # of an experiment about other methods
        assert re.match(r"--methods (base|lora)", str(error)), error
        return
    for run in planned:  # what only training looks at makes no other question
        run["data"].pop("train_on_inputs")
        for what in ("steps", "lr_warmup_steps", "schedule"):
            run["train"].pop(what, None)
    assert len({json.dumps(run, sort_keys=True) for run in planned}) == len(planned)
    assert planned or said == [f"note: base left out: it trains nothing, and {name} is about what training does"]


@pytest.mark.parametrize("name", ["masking", "rate-transfer", "learning-rate", "composition"])
def test_how_methods_train_is_not_asked_of_one_that_does_not(name: str) -> None:
    own = Planner(Request(name, "tiny", methods=("base",), preset="smoke"), fits.here())
    with pytest.raises(ValueError, match=f"--methods base: nothing is trained, and {name} is about what training does"):
        experiments.find(name).check(own)

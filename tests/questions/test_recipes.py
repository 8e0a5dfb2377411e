"""The recipes of the paper: the text's and the released scripts'; how a user chooses, and what the choice moves."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from smt_bench.cli.app import main
from smt_bench.data.datasets import set_aside, unread
from smt_bench.data.prompts import SMT_CODE, TEMPLATE, Example, prompt, question
from smt_bench.evaluation.evaluate import EvalSettings, evaluate
from smt_bench.evidence.cells import Group
from smt_bench.machine.fits import Machine
from smt_bench.models import build, locate
from smt_bench.plan.rows import DryPlanner
from smt_bench.questions.presets import recipe
from smt_bench.questions.recipes import RECIPES
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.report import trained


def planned(name: str | None, family: str = "commonsense", **asked: Any) -> Run:
    """SMT's first run on the paper's model, planned without weights and data."""
    request = Request("plateau", "llama-7b", recipe=name, default_family=family, **asked)
    planner = DryPlanner(request, Machine((80_000_000_000,) * 4, 0))
    planner.open_without_data()
    return planner.run("smt", planner.fractions()[0], 0)[0]


def test_the_released_scripts_choices_reach_the_run() -> None:
    run = planned("paper-code")
    train, data, judged = run.train, run.data, run.evaluation
    assert (train.lr, train.betas, train.weight_decay, train.batch_size) == (9.65e-6, (0.9, 0.95), 0.0, 64)
    assert (train.schedule, train.lr_warmup_steps, train.max_grad_norm) == ("linear-hf", 100, 1.0)
    assert train.steps == 3 * 136_336 // 64 + 1  # int(170,420 x 0.8) records for three epochs
    assert (data.cutoff, data.train_on_inputs, data.heldout, data.template) == (2048, False, 34_084, SMT_CODE)
    assert (judged.beams, judged.repetition_penalty, judged.max_new_tokens, judged.max_new_tokens_math) == (
        4,
        1.1,
        256,
        256,
    )
    config = run.method.config
    assert (config["schedule"], config["warmup_steps"], config["warmup_lr_scale"]) == ("fresh", 100, 1.0)
    math = planned("paper-code", "math")
    assert (math.method.config["schedule"], math.method.config["warmup_steps"]) == ("fresh", 25)  # 25: the text's
    assert math.data.heldout == 9_919 - 7_935
    assert run == Run.from_dict(json.loads(json.dumps(run.to_dict()))) and run.key == Run.from_dict(run.to_dict()).key


def test_the_text_s_recipe_is_the_models_own_and_keeps_its_key() -> None:
    assert planned("paper").key == planned(None).key != planned("paper-code").key
    values = planned(None).to_dict()
    assert "repetition_penalty" not in values["evaluation"] and "schedule" not in values["method"]["config"]
    assert values["data"]["template"] == TEMPLATE and values["train"]["schedule"] == "linear"


def test_every_recipe_says_where_its_numbers_come_from() -> None:
    assert all(found.source for found in RECIPES.values())
    for what in (
        "9.65e-6",
        "betas",
        "2,048",
        "20 %",
        "weight decay 0",
        "response",
        "4 beams",
        "1.1",
        "256",
        "without indents",
    ):
        assert what in RECIPES["paper-code"].source
    assert "identical" not in RECIPES["paper"].source and "DoRA" in RECIPES["paper"].source


@pytest.mark.parametrize(("name", "hint"), [("paper-cod", "did you mean paper-code"), ("zzz", "choose from paper, ")])
def test_an_unknown_recipe_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"--recipe {name}: {hint}"):
        Request("plateau", "tiny", recipe=name)
    with pytest.raises(ValueError, match="--recipe"):
        recipe(name, "math", None)


def test_a_request_with_a_recipe_survives_its_order_file() -> None:
    asked = Request("plateau", "tiny", recipe="paper-code", settings=(("smt", "block_size", 16),))
    assert Request.from_dict(json.loads(json.dumps(asdict(asked)))) == asked
    old = {name: value for name, value in asdict(asked).items() if name != "recipe"}
    assert Request.from_dict(json.loads(json.dumps(old))) == replace(asked, recipe=None)


@pytest.mark.slow
def test_run_and_plan_take_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cli(*args: str) -> Any:
        monkeypatch.setattr("sys.argv", ["smt_bench", *args, "--results", str(tmp_path), "--json"])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        return json.loads(capsys.readouterr().out)

    small = ("run", "plateau", "--model", "tiny", "--preset", "smoke", "--methods", "lora", "--dry-run")
    own, other = cli(*small), cli(*small, "--recipe", "small")  # paper-code needs 2,048 positions
    assert len(own) == len(other) == 1 and own[0]["key"] != other[0]["key"]
    args = ("plan", "plateau", "--methods", "lora", "--fractions", "0.84", "--gpus", "4")
    rows = {name: cli(*args, *(("--recipe", name) if name else ())) for name in ("", "paper", "paper-code")}
    assert rows[""] == rows["paper"]
    assert rows["paper-code"] != rows["paper"]


@pytest.mark.parametrize(
    ("heldout", "records", "count"), [(120, 500, 120), (0.2, 170_420, 34_084), (0.2, 7, 2), (0, 9, 0)]
)
def test_a_share_below_one_is_held_out_as_the_released_code_does(heldout: float, records: int, count: int) -> None:
    assert set_aside(heldout, records) == count
    assert records - count == (int(records * (1 - heldout)) if heldout < 1 else records - heldout)


def test_published_sizes_know_the_share() -> None:
    found = unread("commonsense", 0.2)
    assert (len(found.train), len(found.heldout)) == (136_336, 34_084)


def test_the_scripts_prompts() -> None:
    head = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    tail = "\n\n### Instruction:\n{}\n\n### Response:\n"
    plain, both = Example("Ask?", "", "so", "so"), Example("Ask?", "given this", "so", "so")
    assert prompt(plain, SMT_CODE) == head + "  " + tail.format("Ask?")
    assert prompt(both, SMT_CODE) == head + "  " + tail.format("given this")  # in place of the instruction
    assert question(plain, SMT_CODE) == question(both, SMT_CODE) == head + " " + tail.format("Ask?")


def test_the_repetition_penalty_reaches_generation() -> None:
    located = locate.locate("tiny")
    model, tokenizer = build.load(located, "fp32")
    seen: list[Any] = []
    generate = model.generate

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs.get("repetition_penalty"))
        return generate(*args, **kwargs)

    model.generate = watched
    tests = {"facts-tf": [Example("Is it?", "", "", "true")]}
    for penalty in (1.0, 1.1):
        evaluate(model, tokenizer, tests, EvalSettings("llm-adapters", 2, 4, 4, 1, TEMPLATE, penalty))
    assert seen == [None, 1.1]
    with pytest.raises(ValueError, match="repetition_penalty=0"):
        EvalSettings("llm-adapters", 2, 4, 4, 1, TEMPLATE, 0)


def test_tables_say_what_was_chosen_and_what_the_scripts_do_besides() -> None:
    def said(name: str | None) -> str:
        return " ".join(trained.setting([Group("smt", 0.0043, ({"run": planned(name).to_dict()},), (), ())]))

    plain, code = said(None), said("paper-code")
    for words in (
        "template smt-code", "betas 0.9 and 0.95", "linear-hf schedule", "schedule of its own: SMT", "repetition penalty of 1.1",
        "Unlike SMT's released scripts: the last weights are judged",
    ):  # fmt: skip
        assert words in code and words not in plain, words

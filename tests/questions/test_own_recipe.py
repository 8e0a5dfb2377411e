"""A recipe of one's own: what the options and a file change in the question, what they refuse, and the file that is printed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli

from smt_bench.cli.values import own_recipe
from smt_bench.machine.fits import Machine
from smt_bench.plan.rows import DryPlanner
from smt_bench.questions.own_recipe import Own, read
from smt_bench.questions.planner import Planner
from smt_bench.questions.recipe_sources import as_toml
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.training.optimizer import SCHEDULES

HERE = Machine((80_000_000_000,) * 4, 0)


def planner(model: str = "llama-7b", **asked: Any) -> Planner:
    made = DryPlanner(Request("plateau", model, **asked), HERE)
    made.open_without_data()
    return made


def run(name: str = "smt", model: str = "llama-7b", **asked: Any) -> Run:
    made = planner(model, **asked)
    return made.run(name, made.fractions()[0], 0)[0]


def test_options_reach_the_question() -> None:
    asked = own_recipe(
        None, ["1e-3,lora=3e-3"], ["0.1", "lora=0"], 8, None, 2, 128, "cosine", 0.1, 1000
    )  # a batch smaller than the micro-batch makes that smaller, too
    smt, lora = run("smt", **asked), run("lora", **asked)
    assert (smt.train.lr, lora.train.lr) == (1e-3, 3e-3)
    assert (smt.train.weight_decay, lora.train.weight_decay) == (0.1, 0.0)
    assert (smt.train.batch_size, smt.train.micro_batch_size, smt.train.schedule) == (8, 8, "cosine")
    assert (smt.data.cutoff, smt.data.heldout) == (128, 1000)
    assert smt.train.steps == math.ceil((170_420 - 1000) * 2 / 8)
    assert smt.train.lr_warmup_steps == math.ceil(0.1 * smt.train.steps)
    assert smt.key != run("smt").key == run("smt", **own_recipe(None)).key


def test_one_rate_for_all_goes_before_a_method_s_own_and_one_by_name_does_not() -> None:
    assert planner().recipe.lr("peft:vera") != planner(**own_recipe(None, ["lora=0.5"])).recipe.lr("lora") == 0.5
    assert planner(**own_recipe(None, ["lora=0.5"])).recipe.lr("smt") == planner().recipe.lr("smt")
    both = planner(**own_recipe(None, ["0.25", "lora=0.5"])).recipe
    assert {both.lr(name) for name in ("smt", "peft:vera", "full")} == {0.25} and both.lr("lora") == 0.5


@pytest.mark.parametrize("model", ["llama-7b", "tiny", "smollm2-135m"])
@pytest.mark.parametrize("family", ["commonsense", "math", "instructions"])
def test_a_printed_recipe_asks_the_same_questions(model: str, family: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    plain = planner(model, default_family=family)
    file.write_text(as_toml(plain))
    again = planner(model, default_family=family, **own_recipe(str(file)))
    assert plain.fractions() == again.fractions() and plain.seeds() == again.seeds()
    for name in ("full", "smt", "spiel", "lora", "peft:vera", "fish"):
        share = None if name == "full" else plain.fractions()[0]
        assert plain.question(name, share, 0).key == again.question(name, share, 0).key, name


def test_a_printed_recipe_is_cut_down_as_its_base_is_and_names_the_sources_of_its_family(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    text = as_toml(planner(default_family="instructions"))
    file.write_text(text)
    short = [planner(default_family="instructions", preset="smoke", **asked) for asked in (own_recipe(str(file)), {})]
    assert len({one.question("lora", one.fractions()[0], 0).key for one in short}) == 1
    assert "batch_size = 128  # SpIEL appendix C and table 4" in text and "epochs = 2  # SpIEL appendix C" in text
    assert "# lr_warmup: 0.03 of the steps  # SpIEL appendix C" in text
    paper = as_toml(planner())
    assert "# lr_warmup: 100 steps, at most a quarter of the run  # LLM-Adapters' script" in paper
    assert "lr_warmup = 0.5  # given: option" in as_toml(planner(**own_recipe(None, lr_warmup=0.5)))


def test_options_stand_above_a_file_and_a_preset_cuts_the_file(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('base = "tiny"\nsteps = 50\nbatch_size = 4\n[lr]\nall = 0.5\n[settings.smt]\nblock_size = 16\n')
    asked = own_recipe(str(file), ["smt=0.25"])
    train = run(model="tiny", **asked).train
    assert (train.lr, train.batch_size, train.steps) == (0.25, 4, 50)
    assert run(model="tiny", **asked).method.config["block_size"] == 16
    assert run("lora", model="tiny", **asked).train.lr == 0.5
    assert run(model="tiny", preset="smoke", **asked).train.steps == 8


def test_settings_that_a_file_does_not_name_stay_the_recipes() -> None:
    def smt(**given: Any) -> Mapping[str, Any]:
        return run(model="tiny", steps=88, recipe_file={"settings": {"smt": given}}).method.config

    usual = run(model="tiny", steps=88).method.config
    assert (usual["block_size"], usual["warmup_steps"], usual["warmup_lr_scale"]) == (32, 2, 0.3)
    assert smt(warmup_lr_scale=0.5) == usual | {"warmup_lr_scale": 0.5}
    assert smt(warmup_steps=9) == usual | {"warmup_steps": 9}  # in place of the recipe's share of the run
    assert smt(warmup_share=0.125) == usual | {"warmup_steps": 11}


def test_the_schedules() -> None:
    cosine, constant = SCHEDULES["cosine"], SCHEDULES["constant"]
    assert [constant(s, 10, 4) for s in range(1, 11)] == [0.25, 0.5, 0.75] + [1.0] * 7
    expected = [0.25, 0.5, 0.75, 1.0] + [(1 + math.cos(math.pi * i / 6)) / 2 for i in range(6)]
    assert [cosine(s, 10, 4) for s in range(1, 11)] == pytest.approx(expected)
    assert cosine(1, 1, 0) == constant(1, 1, 0) == 1.0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lr": 0}, "--lr 0: choose"),
        ({"lr": {"lroa": 1e-3}}, "lora"),
        ({"schedule": "step"}, "--schedule 'step': choose from linear"),
        ({"steps": 3, "epochs": 1}, "two ways"),
        ({"weight_decay": {"spiel": 0.1}}, "--set spiel.weight_decay"),
        ({"cutoff": 1}, "--cutoff 1"),
        ({"heldout": -1}, "--heldout -1"),
        ({"heldout": 80.7}, "--heldout 80.7: choose a whole number of examples, or a share"),
        ({"batchsize": 1}, "unknown name 'batchsize'"),
        ({"seeds": [0, 1, 1]}, "--seeds [0, 1, 1]: choose .*each once"),
        ({"settings": {"smt": {"block": 3}}}, "block"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("[", r"\[")):
        Own.of(values)


def test_what_a_run_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="--micro-batch 32: more than the 16"):
        planner(**own_recipe(None, micro_batch=32))
    with pytest.raises(ValueError, match="--lr-warmup 30: a run has 20 steps"):
        run(steps=20, **own_recipe(None, lr_warmup=30))


def test_steps_and_epochs_are_never_both_taken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--steps 10 and --epochs 3: two ways to say one thing"):
        planner(steps=10, **own_recipe(None, epochs=3))
    (tmp_path / "own.toml").write_text('base = "tiny"\nepochs = 3\n')
    both = planner("tiny", steps=10, **own_recipe(str(tmp_path / "own.toml")))  # an option stands above the file
    assert both.question("full", None, 0).train.steps == 10
    assert "epochs" not in both.inputs(both.question("full", None, 0)).recipe.get("changed", {})


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("lr = = 1")
    with pytest.raises(ValueError, match="not a TOML file"):
        read(tmp_path / "bad.toml")
    for text, said in {
        "lrs = 1": "unknown name 'lrs': did you mean lr?",
        "sped = 1": "unknown name 'sped': did you mean seeds?",
        "lr = -1": "lr = -1: choose a number, or METHOD = NUMBER for each, above 0, at most 1,000",
        "lr = 'fast'": "lr = 'fast': choose a number, or METHOD = NUMBER for each, above 0, at most 1,000",
        "[lr]\nnope = 1e-3": "unknown method 'nope': choose from base, full, smt, ",
        "base = 'tin'": "--recipe tin: did you mean tiny?",
        "[settings.smt]\nblock_size = 'x'": "block_size='x': choose a whole number, at least 1 or auto",
    }.items():
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(ValueError) as refused:
            read(tmp_path / "bad.toml")
        assert str(refused.value).startswith(f"bad.toml: {said}") and "\n" not in str(refused.value)


def test_tables_name_what_is_otherwise(cli: Cli) -> None:
    asked = ("--lr", "lora=5e-3", "--schedule", "cosine", "--lr-warmup", "0.25", "--batch-size", "4")
    done = cli("run", "plateau", "--preset", "smoke", "--methods", "lora", "--fractions", "2", *asked)
    assert done.returncode == 0, done.stderr
    said = next(line for line in done.stdout.splitlines() if "Unlike recipe tiny" in line)
    for part in (
        "lr of LoRA 0.005 (recipe: 0.002)",
        'schedule "cosine" (recipe: "linear")',
        "batch_size 4 (recipe: 32)",
    ):
        assert part in said
    idle = cli("run", "plateau", "--preset", "smoke", "--methods", "lora", "--lr", "smt=1e-3", "--dry-run")
    assert idle.returncode == 2 and "--lr smt=...: only lora runs here" in idle.stderr
    measured = cli("run", "speed", "--lr", "1e-3", "--dry-run")
    assert measured.returncode == 2 and "--lr" in measured.stderr


def test_the_command_prints_values_with_their_sources(cli: Cli) -> None:
    done = cli("recipe", "--model", "llama-7b", "--lr", "smt=1e-3")
    assert done.returncode == 0
    assert "epochs = 3  # SMT section 4" in done.stdout
    assert "smt = 0.001  # given: option" in done.stdout and "lora = 0.0003  # LLM-Adapters' script" in done.stdout

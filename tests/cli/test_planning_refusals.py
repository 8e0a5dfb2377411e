"""What a model or a setting makes impossible is said in one line while planning, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from folders import data_folder, model_folder
from helpers import Cli

from smt_bench import methods
from smt_bench.machine import fits
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request


def refusal(model: Path, *settings: tuple[str, str, object], methods: tuple[str, ...] = ("lora",)) -> str:
    """What the planner says to these settings on this model."""
    planner = Planner(Request("plateau", str(model), methods=methods, settings=settings), fits.here())
    with pytest.raises(ValueError, match="targets") as error:
        planner.check_machine(methods)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("text", "names"), [("q_proj", ["q_proj"]), ("q_proj, v_proj", ["q_proj", "v_proj"])])
def test_names_given_as_text_are_read_whole(text: str, names: list[str]) -> None:
    for method in ("lora", "dora", "smt", "spiel"):
        assert methods.find(method).Config.from_dict({"targets": text}).to_dict()["targets"] == names


def test_a_text_and_a_list_are_one_question(cli: Cli) -> None:
    def keys(text: str) -> list[str]:
        done = cli("run", "plateau", "--methods", "lora", "--set", f"lora.targets={text}", "--dry-run", "--json")
        return [row["key"] for row in json.loads(done.stdout)]

    assert keys("q_proj, v_proj") == keys('["q_proj","v_proj"]') != keys("q_proj")


def test_layers_in_another_order_are_the_same_question(cli: Cli) -> None:
    def keys(*asked: str) -> list[str]:
        done = cli("run", "plateau", "--methods", "lora", *asked, "--dry-run", "--json")
        return [row["key"] for row in json.loads(done.stdout)]

    usual = keys()
    assert (
        usual
        == keys("--set", "lora.targets=down_proj,v_proj,k_proj,up_proj,q_proj")
        == keys("--targets", "down,up,qkv")
    )
    assert keys("--targets", "qkv") == keys("--set", "lora.targets=q_proj,k_proj,v_proj") != usual
    assert keys("--targets", "all-linear") == keys("--targets", "mlp,attention")


def test_a_setting_that_the_experiment_compares_is_refused(cli: Cli) -> None:
    for experiment, setting in (
        ("qkv", "targets=q_proj"),
        ("block-metric", "metric=l2"),
        ("selection", "scope=random"),
    ):
        done = cli("run", experiment, "--set", f"smt.{setting}", "--dry-run")
        assert done.returncode == 2 and f"{experiment} compares several of it" in done.stderr
    assert cli("run", "qkv", "--set", "smt.metric=l2", "--dry-run").returncode == 0


def test_targets_without_a_method_that_has_them(cli: Cli) -> None:
    done = cli("run", "plateau", "--methods", "full", "--targets", "qkv", "--dry-run")
    assert done.returncode == 2 and "no method that runs here has a choice of layers" in done.stderr


def test_refusals_say_how_a_setting_is_made(cli: Cli) -> None:
    for given, told in {
        "smt.block_size=7": "(--set smt.block_size=...)",
        "smt.metric=most": "(--set smt.metric=...)",
        "lora.targets=query_key_value": "(--set lora.targets=...)",
        "lora.rank=4": "(--set lora.rank=...)",
    }.items():
        done = cli("run", "plateau", "--set", given)
        assert done.returncode == 2 and told in done.stderr and len(done.stderr.splitlines()) == 1


def test_only_layers_that_can_be_targets_are_offered(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "own")
    offered = (
        "choose from q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, all-linear, or a pattern on paths such as "
        "*.q_proj (--set lora.targets=...)"
    )
    assert refusal(model, ("lora", "targets", "wte")).endswith(f"wte is not in the model: {offered}")
    told = refusal(model, ("lora", "targets", "q_proj,embed_tokens"))
    assert told.endswith(f"embed_tokens is a layer of type Embedding, not a linear one: {offered}")


@pytest.mark.parametrize("layer", ["lm_head", "embed_tokens"])
def test_tied_weights_are_no_targets(layer: str, tmp_path: Path) -> None:
    """Merging an adapter of one layer would change the other as well."""
    told = refusal(model_folder(tmp_path / "tied", tie_word_embeddings=True), ("lora", "targets", layer))
    assert f"{layer} shares its weight with" in told


@pytest.mark.parametrize("pattern", ["*", "model.embed*", "transformer.h.*"])
def test_patterns_mean_layers_that_can_be_targets(pattern: str, tmp_path: Path) -> None:
    told = refusal(model_folder(tmp_path / "own"), ("lora", "targets", pattern))
    assert f"{pattern} (" in told or f"{pattern} fits no layer of the model" in told


def opened(model: Path, data: Path, **changes: Any) -> Planner:
    planner = Planner(Request("plateau", str(model), data=str(data), **changes), fits.here())
    planner.open()
    return planner


def edited(folder: Path, **changes: Any) -> Path:
    """The folder with other entries in its tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_a_pad_token_outside_the_embedding(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", train=100)
    outside = edited(model_folder(tmp_path / "outside"), pad_token="<pad>")
    with pytest.raises(
        ValueError, match="pad_token '<pad>' has id 300, the embedding 300 rows: its tokenizer is another"
    ):
        opened(outside, data)
    assert opened(edited(model_folder(tmp_path / "inside"), pad_token="a"), data).opened


def test_no_end_of_text_token(tmp_path: Path) -> None:
    model = edited(model_folder(tmp_path / "endless"), eos_token=None)
    with pytest.raises(ValueError, match="has no end-of-text token, with which every response ends: set eos_token"):
        opened(model, data_folder(tmp_path / "data", train=100))


def test_too_few_positions(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", train=100)
    with pytest.raises(ValueError, match="64 positions, fewer than the recipe's cut-off of 256 tokens"):
        opened(model_folder(tmp_path / "short", max_position_embeddings=64), data)
    middle = model_folder(tmp_path / "middle", max_position_embeddings=256)
    told = r"256 positions, fewer than the \d+ tokens of the shortest question of boolq and 32 of its answer"
    assert opened(middle, data, protocol="llm-adapters").opened
    tests = data / "dataset" / "boolq" / "test.json"
    tests.write_text(json.dumps([{**record, "instruction": "7" * 250} for record in json.loads(tests.read_text())]))
    with pytest.raises(ValueError, match=told):
        opened(middle, data, protocol="llm-adapters")


def test_it_is_one_line_before_anything_is_trained(cli: Cli, tmp_path: Path) -> None:
    model, data = model_folder(tmp_path / "short", max_position_embeddings=64), data_folder(tmp_path / "data")
    done = cli("run", "plateau", "--preset", "smoke", "--model", str(model), "--data", str(data))
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: model short: 64 positions" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "results").glob("runs/*"))


def test_held_out_examples_of_one_part_alone_are_refused(cli: Cli, tmp_path: Path) -> None:
    """Where none is reported there is no loss to show, and where none chooses a choice would be made by those reported."""
    done = cli("run", "plateau", "--preset", "smoke", "--limit-heldout", "1")
    assert (done.returncode, done.stdout) == (2, "") and not list(tmp_path.glob("results/runs/*"))
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --limit-heldout 1: none of these is one that ") and "look at more" in line

"""What a model's files must hold: exactly the weights of its architecture, none of them made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from folders import Tensors, data_folder, model_folder
from helpers import Cli, tiny_llama
from transformers import LlamaForSequenceClassification

from smt_bench.models.build import load, outline
from smt_bench.models.locate import locate


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: t for name, t in tensors.items() if part not in name}


FAULTS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "prefixed": (lambda t: {f"base_model.model.{n}": v for n, v in t.items()}, "unexpected (base_model.model.lm_head"),
    "a missing layer": (without(".layers.1."), "9 missing (model.layers.1.input_layernorm.weight"),
    "a base model's": (without("lm_head"), "1 missing (lm_head.weight)"),
    "a layer too many": (
        lambda t: {**t, "model.layers.2.mlp.up_proj.weight": torch.ones(96, 64)},
        "1 unexpected (model.layers.2.mlp.up_proj.weight)",
    ),
    "another shape": (lambda t: {**t, "lm_head.weight": torch.ones(3, 64)}, "1 of another shape (lm_head.weight)"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_other_weights_than_the_models_are_refused_by_name(case: str, tmp_path: Path) -> None:
    change, told = FAULTS[case]
    located = locate(str(model_folder(tmp_path / "odd", change)))
    for read in (outline, lambda found: load(found, "fp32")):
        with pytest.raises(ValueError, match="model odd: its files are not those of LlamaForCausalLM") as refusal:
            read(located)
        assert told in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("tied", [False, True])
def test_a_classifiers_folder_is_refused(tied: bool, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "classifier", tie_word_embeddings=tied)
    LlamaForSequenceClassification(tiny_llama(tie_word_embeddings=tied).config).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"1 unexpected \(score.weight\)"):
        load(locate(str(folder)), "fp32")


def test_tied_weights_may_be_absent_and_all_weights_are_the_files(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tied", without("lm_head"), tie_word_embeddings=True)
    model, _ = load(locate(str(folder)), "fp32")
    wanted = tiny_llama(tie_word_embeddings=True).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())
    assert next(outline(locate(str(folder))).parameters()).is_meta


def test_an_adapters_folder_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "adapter")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds an adapter: merge it"):
        locate(str(folder))


def test_it_is_refused_before_anything_is_trained(cli: Cli, tmp_path: Path) -> None:
    folder, data = model_folder(tmp_path / "odd", without(".layers.1.")), data_folder(tmp_path / "data")
    done = cli("run", "plateau", "--model", str(folder), "--data", str(data), "--preset", "smoke")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: model odd: its files are not those of LlamaForCausalLM: 9 missing" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "results").glob("runs/*"))

"""What a model's files must hold: exactly the weights of its architecture, none of them made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import Tensors, data_folder, model_folder
from helpers import Cli, tiny_llama
from torch import nn
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from smt_bench import methods
from smt_bench.methods.base import ParamGroup
from smt_bench.methods.lora import Lora
from smt_bench.models.build import build, load, outline
from smt_bench.models.locate import locate
from smt_bench.models.preflight import check_attached, check_causal
from smt_bench.models.unpack import unpack


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


def test_models_that_read_both_ways_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertLMHeadModel(BertConfig(vocab_size=300, **sizes)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"model .*bert: bert reads both ways \(is_decoder is false\)"):
        build(str(tmp_path / "bert"))


@pytest.mark.parametrize("kind", ["xlnet", "gpt2"])
def test_predictions_that_depend_on_later_tokens_are_found(kind: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "xlnet": {"d_model": 32, "n_layer": 1, "n_head": 2, "d_inner": 32},
        "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2},
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=300, **sizes[kind]))
    if kind == "gpt2":
        return check_causal("mine", model)
    with pytest.raises(
        ValueError, match=r"model mine: its predictions depend on later tokens \(logits move by [0-9.]+ of"
    ):
        check_causal("mine", model)


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "quantized")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "quantization_config": {"quant_method": "gptq", "bits": 4}})
    )
    with pytest.raises(ValueError, match=r"model .*quantized: its config.json names quantized weights \(gptq\)"):
        build(str(folder))


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    tiny_llama().save_pretrained(folder, max_shard_size="60KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1
    shards[0].unlink()
    with pytest.raises(ValueError, match=f"model sharded: {shards[0].name} is missing"):
        locate(str(folder))


def test_layers_that_no_gradient_reaches_are_refused() -> None:
    class Deaf(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            found = super().forward(*args, **kwargs)
            found.logits = found.logits.detach() + self.lm_head.weight.sum()
            return found

    with torch.device("meta"):
        model = unpack(Deaf(tiny_llama().config))
    method = methods.build("lora", {}, 0.05, 0, 8)
    capacity = method.capacity({name: tuple(p.shape) for name, p in model.named_parameters()})
    with pytest.raises(ValueError, match=r"lora: no gradient reaches model.layers.0.self_attn.q_proj.lora_A"):
        check_attached(method, capacity, model)


def test_a_method_that_takes_no_hold_is_refused() -> None:
    class Half(Lora):
        name = "half"

        def attach(self, model: nn.Module) -> list[ParamGroup]:
            groups = super().attach(model)
            next(p for p in model.parameters() if p.requires_grad).requires_grad_(False)
            return groups

    with torch.device("meta"):
        model = unpack(LlamaForCausalLM(tiny_llama().config))
    method = Half(Half.Config(), 0.05, 0, 8)
    capacity = method.capacity({name: tuple(p.shape) for name, p in model.named_parameters()})
    with pytest.raises(
        ValueError, match=r"half: [0-9,]+ numbers would train on LlamaForCausalLM, [0-9,]+ were planned"
    ):
        check_attached(method, capacity, model)

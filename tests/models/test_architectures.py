"""Every architecture, with all methods of the plateau, by default settings: planned, trained, merged, judged."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES, builds, configuration
from folders import data_folder
from helpers import Cli, small_tokenizer
from transformers import AutoModelForCausalLM

from smt_bench import methods
from smt_bench.measuring import rates
from smt_bench.methods.modules import linears
from smt_bench.methods.roles import ALL, ATTENTION, expanded, matches, reads_text, role
from smt_bench.models.inventory import inventory
from smt_bench.models.unpack import pack, unpack

SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
METHODS = ("base", "full", "smt", "spiel", "lora", "dora")


def random_model(name: str, vocabulary: int = 320, **changes: Any) -> Any:
    """With weights of a size that makes every layer matter, biases and norms included."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(configuration(name, vocabulary, **SPECIAL), **changes)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(0.02 * torch.randn_like(tensor))
    return model.eval()


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 15)[None], use_cache=False).logits


def doubled(name: str) -> Any:
    return random_model(name, experts_implementation="eager").double()  # grouped products have no float64


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_unpacking_changes_no_function_and_packing_no_number(name: str) -> None:
    model = doubled(name)
    before, weights = logits_of(model), {k: v.clone() for k, v in model.state_dict().items()}
    total = sum(p.numel() for p in model.parameters())
    unpack(model)
    assert sum(p.numel() for p in model.parameters()) == total
    assert torch.allclose(logits_of(model), before, rtol=1e-11, atol=1e-13)
    after = pack(model).state_dict()
    assert after.keys() == weights.keys() and all(torch.equal(after[k], weights[k]) for k in weights)
    assert torch.equal(logits_of(model), before)


# The part of DeepSeek's keys with positions has a matrix of its own; Qwen3-next's q_proj holds a gate as well; GPT-OSS's sinks
# stand beside the products.
PRODUCTS = [n for n in ARCHITECTURES if n not in ("deepseek_v3", "qwen3_next", "mamba", "rwkv")]


@pytest.mark.parametrize("name", PRODUCTS)
def test_queries_keys_and_values_are_what_they_are_called(name: str) -> None:
    """Attention looks at products of queries and keys alone; without values nothing comes out of it."""
    model = unpack(doubled(name))
    for module in model.modules():  # norms of queries and keys undo a factor, but for their epsilon
        for epsilon in ("eps", "variance_epsilon"):
            if isinstance(getattr(module, epsilon, None), float):
                setattr(module, epsilon, 1e-30)
    before = logits_of(model)
    with torch.no_grad():
        for role, factor in (("q_proj", 2.0), ("k_proj", 0.5)):
            for _, linear in linears(model, [role]):
                for tensor in linear.parameters():
                    tensor.mul_(factor)
    assert torch.allclose(logits_of(model), before, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        for _, linear in linears(model, ["v_proj"]):
            for tensor in linear.parameters():
                tensor.zero_()
    seen = []
    for path, linear in linears(model, ["o_proj"]):
        if "vision" not in path:
            linear.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    logits_of(model)
    assert len(seen) == 2 and all(not x.any() for x in seen)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_inventory_says_what_each_layer_does(name: str) -> None:
    with torch.device("meta"):
        model = unpack(AutoModelForCausalLM.from_config(configuration(name, 320, **SPECIAL)))
    found = inventory(model)
    known = {
        "mamba": {"in_proj"},
        "rwkv": {"k_proj", "v_proj", "o_proj", "receptance"},
    }
    assert known.get(name, set(ATTENTION)) <= set(found.offered)
    mlp = {"up_proj", "down_proj"} <= set(found.offered)
    assert mlp or found.experts > 0.2 * found.total or name == "mamba"
    assert all(x.text and x.inside for x in found.layers if x.role in found.offered and x.unfit is None and x.text)
    assert found.total == sum(p.numel() for p in model.parameters())
    assert set(found.resolve([ALL])) == set(found.offered)
    for target in found.offered:
        assert all(reads_text(path) for path, _ in linears(model, [target]))


def test_roles_are_read_off_paths() -> None:
    for path, what in {
        "model.layers.3.self_attn.q_proj": "q_proj",
        "transformer.h.0.attn.c_proj": "o_proj",
        "transformer.h.0.mlp.c_proj": "down_proj",
        "gpt_neox.layers.1.attention.dense": "o_proj",
        "model.layers.0.self_attn.qkv_proj.v_proj": "v_proj",
        "rwkv.blocks.0.feed_forward.key": "up_proj",
        "rwkv.blocks.0.attention.key": "k_proj",
        "model.decoder.layers.2.fc2": "down_proj",
        "backbone.layers.0.mixer.out_proj": "out_proj",
        "lm_head": "lm_head",
    }.items():
        assert role(path) == what
    assert expanded(["qkv", "down", "x_proj", "q"]) == ("q_proj", "k_proj", "v_proj", "down_proj", "x_proj")
    assert matches("model.layers.0.mlp.up_proj", ["model.layers.0.*"])
    assert not matches("model.vision_tower.encoder.layers.0.self_attn.q_proj", ["q_proj"])


@pytest.mark.parametrize("name", builds(ARCHITECTURES))
def test_all_methods_of_the_plateau(name: str, cli: Cli, tmp_path: Path) -> None:
    model, data = tmp_path / name.replace("+", "-"), data_folder(tmp_path / "data", train=120)
    random_model(name).save_pretrained(model)
    small_tokenizer().save_pretrained(model)
    asked = ("--model", str(model), "--data", str(data), "--methods", ",".join(METHODS), "--tasks", "boolq")
    short = ("--preset", "smoke", "--steps", "6", "--fractions", "4", "--results", str(tmp_path / "results"))
    done = cli("run", "plateau", *asked, *short)
    assert done.returncode == 0, done.stderr[-2000:]
    records = [json.loads(path.read_text()) for path in (tmp_path / "results" / "runs").glob("*.json")]
    assert {r["run"]["method"]["name"] for r in records} == set(METHODS)
    assert {r["status"] for r in records} == {"done"}
    for record in records:
        losses = record["training"]["losses"]
        if record["run"]["method"]["name"] != "base":
            assert len(set(losses)) == len(losses) and all(
                map(math.isfinite, losses)
            )  # that they fall, `test_matrix.py` shows
        assert record["merge"]["difference"] <= record["merge"]["tolerance"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["qkv", "allocation", "gradients", "anatomy", "criteria", "speed"])
@pytest.mark.parametrize("name", ["phi3", "gpt_neox", "falcon"])
def test_experiments_about_projections_run_on_fused_ones(
    name: str, experiment: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rates.SIDES, "cpu", 64)  # what this machine reaches is not asked here
    model, data = tmp_path / name, data_folder(tmp_path / "data", train=120)
    random_model(name).save_pretrained(model)
    small_tokenizer().save_pretrained(model)
    asked = ["--model", str(model), "--preset", "smoke", "--steps", "4"]
    if experiment != "speed":
        asked += ["--data", str(data)]
    if experiment not in ("gradients", "criteria"):
        asked += ["--fractions", "2"]
    if experiment not in ("speed", "criteria"):
        asked += ["--tasks", "boolq"]
    done = cli("run", experiment, *asked)
    assert done.returncode == 0, done.stderr[-1500:]
    records = [json.loads(path.read_text()) for path in (tmp_path / "results" / "runs").glob("*.json")]
    assert records and {r["status"] for r in records} == {"done"}


@pytest.mark.parametrize("name", ["falcon", "falcon+rw", "gpt_neox", "phi3"])
def test_outputs_of_sparse_layers_may_be_changed_in_place(name: str) -> None:
    """Falcon adds the attention's output to the MLP's in place; autograd forbids that on views that its own functions return."""
    model = unpack(random_model(name)).train()
    layers = inventory(model).resolve([ALL])
    for method, config in (("smt", {"block_size": "auto", "warmup_steps": 1}), ("spiel", {})):
        made = methods.build(method, {**config, "targets": list(layers)}, 0.04, 0, 4)
        tried = copy.deepcopy(model)
        if made.warmup_steps:
            made.warmup(tried)
            tried(input_ids=torch.arange(3, 15)[None], use_cache=False).logits.sum().backward()
            made.observe(tried, 1)
        made.attach(tried)
        made.before_step(tried, 2)
        tried(input_ids=torch.arange(3, 15)[None], use_cache=False).logits.sum().backward()


def test_a_copied_folder_asks_the_same_questions(cli: Cli, tmp_path: Path) -> None:
    """What a folder is called is in no key, and rows that were done under another name stand in one table."""
    data = data_folder(tmp_path / "data", train=120)
    for name, methods_asked in (("first", "lora"), ("second", "lora,full")):
        random_model("phi3").save_pretrained(tmp_path / name)
        small_tokenizer().save_pretrained(tmp_path / name)
        asked = ("--model", str(tmp_path / name), "--data", str(data), "--tasks", "boolq", "--methods", methods_asked)
        done = cli("run", "plateau", *asked, "--preset", "smoke", "--steps", "2", "--limit", "2")
        assert done.returncode == 0, done.stderr[-500:]
    assert "1 there, 1 done" in done.stderr and "| LoRA " in done.stdout and "| full " in done.stdout


@pytest.mark.parametrize("name", ["phi3", "gpt_neox"])
def test_the_factor_of_fused_attention_is_really_changed(name: str, cli: Cli, tmp_path: Path) -> None:
    random_model(name).save_pretrained(tmp_path / name)
    small_tokenizer().save_pretrained(tmp_path / name)
    data = data_folder(tmp_path / "data", train=120)
    done = cli("run", "saturation", "--model", str(tmp_path / name), "--data", str(data), "--preset", "smoke")
    assert done.returncode == 0, done.stderr[-500:]
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "results" / "runs").glob("*.json"))
    rows = [row for row in record["result"]["own"] if row["layer"] == 0]
    values = {tuple(sorted((k, v) for k, v in row.items() if k not in ("factor", "layer"))) for row in rows}
    assert len(rows) > 1 and len(values) == len(rows)

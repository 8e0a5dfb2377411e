"""The trained model out: read by plain `transformers`, it says what the run's model said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from architectures import configuration
from folders import data_folder, model_folder
from helpers import Cli, small_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from smt_bench.evaluation.heldout import response_loglik
from smt_bench.models import adapters
from smt_bench.models.keeping import measured, shapes
from smt_bench.models.locate import locate

METHODS = ("full", "smt", "spiel", "lora", "dora")
ASKED = ("--preset", "smoke", "--steps", "4", "--fractions", "4", "--limit", "1", "--tasks", "boolq")


def base_folder(kind: str, place: Path) -> Path:
    if kind == "llama":
        return model_folder(place)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    AutoModelForCausalLM.from_config(configuration(kind, 320, **special)).save_pretrained(place)
    small_tokenizer().save_pretrained(place)
    return place


def trained(cli: Cli, tmp_path: Path, kind: str, methods: str, *more: str) -> dict[str, dict]:
    """Records by method, of runs that kept their adapters."""
    base, data = base_folder(kind, tmp_path / "bases" / kind), data_folder(tmp_path / "data", train=120)
    asked = ("--model", str(base), "--data", str(data), "--methods", methods, "--keep", "adapters", *ASKED, *more)
    done = cli("run", "plateau", *asked)
    assert done.returncode == 0, done.stderr[-800:]
    records = [json.loads(p.read_text()) for p in (tmp_path / "results" / "runs").glob("*.json")]
    return {r["run"]["method"]["name"]: r for r in records}


@pytest.mark.parametrize(
    ("kind", "base"), [("llama", ""), ("gpt2", ""), ("phi3", ""), ("gpt2", "nf4"), ("phi3", "nf4")]
)
def test_an_exported_model_says_what_the_runs_model_said(kind: str, base: str, cli: Cli, tmp_path: Path) -> None:
    """Over a base of 4 bits the run judged it unmerged; GPT-2's embeddings are tied, and layers of both are taken apart."""
    names, more = METHODS, []
    if base:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: nothing can be quantized")
        names, more = ("smt", "spiel", "lora"), ["--base", base]
    records = trained(cli, tmp_path, kind, ",".join(names), *more)
    from smt_bench.machine import fits
    from smt_bench.questions.planner import Planner
    from smt_bench.questions.request import Request

    planner = Planner(
        Request("plateau", str(tmp_path / "bases" / kind), str(tmp_path / "data"), preset="smoke", tasks=("boolq",)),
        fits.here(),
    )
    planner.open()
    for name in names:
        record, out = records[name], tmp_path / f"out-{name}"
        kept = tmp_path / "results" / "adapters" / record["key"]
        files = [p for p in kept.iterdir() if p.name != adapters.ABOUT]
        assert record["adapter"]["bytes"] == sum(p.stat().st_size for p in files)
        done = cli("export", record["key"], str(out), "--model", str(tmp_path / "bases" / kind))
        assert done.returncode == 0, done.stderr[-800:]
        plain, words = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
        data, run = planner.data, record["run"]
        found = response_loglik(plain, words, data.heldout, run["data"]["template"], run["data"]["cutoff"], 8)
        said = record["heldout"]["examples"]["loglik"]
        assert len(said) == len(data.heldout)
        for i, loglik in enumerate(said):
            assert found[i]["loglik"] == pytest.approx(loglik, rel=1e-4, abs=1e-4)


def test_sparse_methods_keep_what_they_train_and_no_more(cli: Cli, tmp_path: Path) -> None:
    asked = "smt,spiel,lora,fish,lt-sft,s2ft"
    records = trained(cli, tmp_path, "llama", asked, "--set", "smt.warmup_trains=false")
    for name in ("smt", "spiel", "fish", "lt-sft", "s2ft"):
        kept, capacity = records[name]["adapter"], records[name]["capacity"]
        assert kept["format"] == "difference"
        assert 0.9 * capacity["trainable"] <= kept["numbers"] <= capacity["trainable"]  # a number may have stayed
        assert kept["bytes"] <= 8 * capacity["trainable"] + 8_000


def test_a_warmup_that_trains_moves_the_whole_model(cli: Cli, tmp_path: Path) -> None:
    record = trained(cli, tmp_path, "llama", "smt")["smt"]
    assert record["adapter"]["numbers"] > 0.8 * record["capacity"]["total"]  # rows of tokens that do not occur stay


def test_adding_and_subtracting(cli: Cli, tmp_path: Path) -> None:
    records = trained(cli, tmp_path, "llama", "smt,spiel", "--set", "smt.warmup_trains=false")
    place, base = tmp_path / "results" / "adapters", str(tmp_path / "bases" / "llama")
    smt, spiel = (str(place / records[name]["key"]) for name in ("smt", "spiel"))
    for command, out, parts in (
        ("add", "sum", [smt, spiel]),
        ("subtract", "less", [smt, spiel]),
        ("add", "one", [smt]),
    ):
        done = cli(command, str(tmp_path / out), *parts, "--model", base)
        assert done.returncode == 0, done.stderr[-500:]
    assert cli("export", records["smt"]["key"], str(tmp_path / "exported"), "--model", base).returncode == 0
    start, exported, *combined = (
        load_file(folder / "model.safetensors")
        for folder in (
            tmp_path / "bases" / "llama",
            tmp_path / "exported",
            tmp_path / "sum",
            tmp_path / "less",
            tmp_path / "one",
        )
    )
    ours, theirs = load_file(Path(smt) / adapters.FILE), load_file(Path(spiel) / adapters.FILE)

    def change(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
        moved = torch.zeros_like(start[name], dtype=torch.float64).flatten()
        if f"{name}.values" in tensors:
            places = tensors[f"{name}.indices"].long()
            moved[places] = tensors[f"{name}.values"].double() - start[name].flatten()[places].double()
        if f"{name}.dense" in tensors:
            moved = (tensors[f"{name}.dense"].double() - start[name].double()).flatten()
        return moved.view_as(start[name])

    for name, before in start.items():
        for found, sign in zip(combined[:2], (1, -1)):
            wanted = before.double() + change(ours, name) + sign * change(theirs, name)
            assert torch.equal(found[name], wanted.float())
        assert torch.equal(combined[2][name], exported[name])


def test_what_cannot_be_exported_is_said(cli: Cli, tmp_path: Path) -> None:
    record = trained(cli, tmp_path, "llama", "spiel")["spiel"]
    key, other = record["key"], str(model_folder(tmp_path / "other", num_hidden_layers=1))
    kept = tmp_path / "results" / "adapters" / key
    for told, args in {
        "was made for llama of revision": ("export", key, str(tmp_path / "a"), "--model", other),
        "the base llama is not known here": ("export", key, str(tmp_path / "a")),
        "is there already: choose a new folder": (
            "export",
            key,
            str(tmp_path / "data"),
            "--model",
            str(tmp_path / "bases" / "llama"),
        ),
        "one is named twice": ("add", str(tmp_path / "a"), str(kept), str(kept)),
        "cannot be read": ("add", str(tmp_path / "a"), str(tmp_path / "bases" / "llama" / "config.json")),
        "is not a difference of smt-bench": (
            "add",
            str(tmp_path / "a"),
            str(tmp_path / "bases" / "llama" / "model.safetensors"),
        ),
    }.items():
        done = cli(*args)
        assert done.returncode == 2 and told in done.stderr.splitlines()[-1], done.stderr[-400:]
        assert not (tmp_path / "a").exists()
    (kept / adapters.ABOUT).unlink()
    done = cli("export", key, str(tmp_path / "a"), "--model", str(tmp_path / "bases" / "llama"))
    assert done.returncode == 2 and "no adapter is kept" in done.stderr
    assert cli("run", "plateau", "--keep", "everything").returncode == 2


def test_a_file_says_all_that_it_is_for(cli: Cli, tmp_path: Path) -> None:
    record = trained(cli, tmp_path, "llama", "spiel")["spiel"]
    file = tmp_path / "results" / "adapters" / record["key"] / adapters.FILE
    said, base = adapters.about(file), load_file(tmp_path / "bases" / "llama" / "model.safetensors")
    assert (said["base"], said["revision"]) == ("llama", record["run"]["model"]["revision"])
    assert json.loads(said["method"]) == record["run"]["method"] and said["key"] == record["key"]
    shapes = json.loads(said["shapes"])
    assert shapes == {name: list(base[name].shape) for name in shapes} and len(shapes) == 14


@given(st.lists(st.tuples(st.integers(0, 59), st.floats(-5, 5, width=32)), max_size=60), st.booleans())
def test_base_and_file_are_the_trained_model(changes: list[tuple[int, float]], half: bool) -> None:
    base = torch.linspace(-1, 1, 60).view(6, 10).to(torch.bfloat16 if half else torch.float32)
    after = base.clone()
    for place, value in changes:
        after.view(-1)[place] = value
    found = adapters.difference({"w": after}, [("w", base)])
    again = base.clone()
    if "w.dense" in found:
        again = found["w.dense"]
    elif found:
        again.view(-1)[found["w.indices"].long()] = found["w.values"]
    assert torch.equal(again, after)
    assert set(found) in (set(), {"w.dense"}, {"w.indices", "w.values"})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_size_is_known_without_a_file(dtype: torch.dtype, tmp_path: Path) -> None:
    base = {f"layer.{n}.weight": torch.zeros(9 + n, 7, dtype=dtype) for n in range(12)}
    trained = {name: t.clone() for name, t in base.items()}
    for n, tensor in enumerate(trained.values()):
        tensor.view(-1)[: 9 * n] = 1.5
    metadata = {"format": "x", "method": json.dumps({"name": "smt"})}
    whole = adapters.difference(trained, base.items())
    save_file(whole, tmp_path / "file", metadata=metadata | {"shapes": shapes(whole, trained)})
    size, numbers = measured(adapters.changed(trained, base.items()), metadata, trained)
    assert size == (tmp_path / "file").stat().st_size
    assert numbers == sum(t.numel() for name, t in whole.items() if not name.endswith(".indices"))


def test_minus_zero_is_another_number() -> None:
    assert adapters.difference({"w": torch.tensor([-0.0, 1.0, 2.0])}, [("w", torch.tensor([0.0, 1.0, 2.0]))])[
        "w.indices"
    ].tolist() == [0]


@pytest.mark.parametrize("kind", ["qwen3_next", "mixtral"])
def test_an_adapter_of_shared_experts_is_not_lost(kind: str, cli: Cli, tmp_path: Path) -> None:
    """peft would look for it among all experts: a difference is kept instead."""
    record = trained(cli, tmp_path, kind, "lora", "--targets", "all-linear")["lora"]
    assert record["adapter"]["format"] == "difference"
    done = cli("export", record["key"], str(tmp_path / "out"), "--model", str(tmp_path / "bases" / kind))
    assert done.returncode == 0, done.stderr[-500:]
    before, after = (load_file(p / "model.safetensors") for p in (tmp_path / "bases" / kind, tmp_path / "out"))
    moved = {name.split(".")[-2] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {"q_proj", "k_proj", "v_proj", "o_proj"} <= moved
    assert kind == "mixtral" or {"gate_proj", "up_proj", "down_proj"} <= moved


def test_what_cannot_be_kept_costs_no_result(cli: Cli, tmp_path: Path) -> None:
    asked = ("--set", "peft:lora.init_lora_weights=pissa", "--set", "peft:lora.merge=false")
    record = trained(cli, tmp_path, "llama", "peft:lora", *asked)["peft:lora"]
    assert record["status"] == "done" and "adapter" not in record


def test_a_base_is_read_from_its_files(tmp_path: Path) -> None:
    located = locate(str(model_folder(tmp_path / "tied", tie_word_embeddings=True)))
    model = AutoModelForCausalLM.from_pretrained(located.path)
    assert adapters.difference(model.state_dict(), adapters.base_of(located, "fp32", model.state_dict())) == {}

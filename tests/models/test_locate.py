"""The revision of a local model: moved by everything that decides its tokens or outcome, by nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import model_folder

from smt_bench.execute import execute
from smt_bench.models import registry
from smt_bench.models.locate import folder_hash, locate
from smt_bench.testbed import WEIGHTS


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


def test_the_hash_says_its_own_version() -> None:
    assert folder_hash(WEIGHTS).startswith("v2-") and len(folder_hash(WEIGHTS)) == 19


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

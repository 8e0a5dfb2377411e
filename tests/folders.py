"""Folders as users bring them: a model as `save_pretrained` writes it, data in the LLM-Adapters layout; and small disks."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import small_tokenizer, tiny_llama
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def model_folder(folder: Path, change: Callable[[Tensors], Tensors] | None = None, **sizes: Any) -> Path:
    """A small LLaMA, its tensors changed by `change`; sizes as for `tiny_llama`."""
    tiny_llama(**sizes).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    if change is not None:
        file = folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def data_folder(root: Path, train: int = 40, test: int = 12, task: str = "boolq") -> Path:
    """One task's train and test files."""
    place = root / "dataset" / task
    place.mkdir(parents=True)
    for name, count in (("train", train), ("test", test)):
        values = [
            {"instruction": f"{name} {i}?", "input": "", "output": "the correct answer is true", "answer": "true"}
            for i in range(count)
        ]
        (place / f"{name}.json").write_text(json.dumps(values))
    return root


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A new folder that is a file system of so many bytes, e.g. "8m"; skips the test where that cannot be."""
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)

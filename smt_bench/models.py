"""The models: where weights come from, their architecture, and how they are loaded.

Only safetensors weights, never remote code. Sizes of the registered models are known without any download, so that
impossible requests and missing hardware are named before anything is fetched.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from methods.base import Shapes
from smt_bench.runs import ModelRef, digest

TINY_FOLDER = Path(__file__).parent / "testbed" / "weights"
MARKER = "smt_bench.json"  # in folders written by `fetch`: where the weights came from, and their hash


def cache_folder() -> Path:
    """Where `fetch` puts things: SMT_BENCH_CACHE, or smt_bench in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "smt_bench"
    return Path(os.environ.get("SMT_BENCH_CACHE", default))


@dataclass(frozen=True)
class ModelEntry:
    """One registered model.

    Attributes:
        name: registry name.
        hub_id: Hugging Face id; None for embedded weights, and for an architecture without any.
        llama: sizes for `LlamaConfig`, so that shapes need no download.
        recipe: name of its recipe.
        note: what it needs, in a few words.
        published: whether the SMT paper prints results for it.
        weightless: only an architecture, for experiments that measure cost.
    """

    name: str
    hub_id: str | None
    llama: dict[str, Any] = field(default_factory=dict)
    recipe: str = "paper"
    note: str = ""
    published: bool = False
    weightless: bool = False


def _llama(
    hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, vocab: int, tied: bool = False, positions: int = 2048
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "max_position_embeddings": positions,
    }


_7B = _llama(4096, 11008, 32, 32, 32, 32000)
REGISTRY = {
    entry.name: entry
    for entry in (
        ModelEntry("tiny", None, recipe="tiny", note="embedded; minutes on two CPU cores"),
        ModelEntry(
            "smollm2-135m",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            _llama(576, 1536, 30, 9, 3, 49152, tied=True, positions=8192),
            recipe="smollm2",
            note="real pretrained; hours on two CPU cores; `fetch smollm2-135m` where the hub cannot be reached",
        ),
        ModelEntry("llama-7b", "huggyllama/llama-7b", _7B, note="4 GPUs of 40 GB", published=True),
        ModelEntry(
            "llama-13b",
            "huggyllama/llama-13b",
            _llama(5120, 13824, 40, 40, 40, 32000),
            note="4 GPUs of 80 GB",
            published=True,
        ),
        ModelEntry(
            "llama2-7b",
            "meta-llama/Llama-2-7b-hf",
            {**_7B, "max_position_embeddings": 4096},
            note="4 GPUs of 40 GB; gated on the hub",
            published=True,
        ),
        ModelEntry(
            "llama3-8b",
            "meta-llama/Meta-Llama-3-8B",
            _llama(4096, 14336, 32, 32, 8, 128256, positions=8192),
            recipe="paper-llama3",
            note="4 GPUs of 80 GB; gated on the hub",
            published=True,
        ),
        # LLaMA-7B's proportions: heads of 128, MLP of 8/3, about 5 % of the parameters in embeddings.
        ModelEntry(
            "bench-60m",
            None,
            _llama(768, 2048, 8, 6, 6, 2048),
            recipe="bench",
            note="random weights, for speed, memory and kernels; minutes on two CPU cores",
            weightless=True,
        ),
        ModelEntry(
            "bench-110m",
            None,
            _llama(1024, 2816, 8, 8, 8, 4096),
            recipe="bench",
            note="random weights, for speed, memory and kernels; minutes on two CPU cores",
            weightless=True,
        ),
    )
}


def find(name: str) -> ModelEntry:
    """The registered model, a Hugging Face id ("org/name") or a local folder.

    Raises:
        ValueError: none of these; the message names the nearest registered model.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    if (Path(name) / "config.json").is_file():
        return ModelEntry(Path(name).resolve().name, None, recipe="small", note="local folder")
    if Path(name).is_dir():
        raise ValueError(f"model folder {name} has no config.json: pass a folder as `save_pretrained` writes it")
    if name.count("/") == 1 and not name.startswith((".", "/")):
        return ModelEntry(name, name, recipe="small", note="Hugging Face id")
    near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.4)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"choose from {', '.join(REGISTRY)}, a Hugging Face id or a local folder"
    )
    raise ValueError(f"unknown model {name!r}: {hint}")


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
    if name == "tiny":
        return Located(ModelRef("tiny", folder_hash(TINY_FOLDER), "embedded"), TINY_FOLDER)
    if entry.weightless:
        raise ValueError(f"model {name} has no weights: use it with speed, memory or kernels, or choose tiny")
    if entry.hub_id is None:
        return Located(ModelRef(entry.name, folder_hash(Path(name)), "local"), Path(name))
    fetched = cache_folder() / "models" / entry.name.replace("/", "--")
    if (fetched / MARKER).is_file():
        marker = json.loads((fetched / MARKER).read_text(encoding="utf-8"))
        return Located(ModelRef(entry.name, marker["revision"], marker["weights"]), fetched)
    path = hub_snapshot(entry.hub_id)
    return Located(ModelRef(entry.name, path.name, "hub"), path)


def hub_snapshot(hub_id: str) -> Path:
    """The hub's files of a model: from its cache, else downloaded; the folder's name is the commit.

    Raises:
        ValueError: not cached and not to be had, or without safetensors weights.
    """
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt"]
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
        if entry is not None and entry.recipe == "smollm2":
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
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return all((folder / n).is_file() for n in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return any(folder.glob("*.safetensors"))


def folder_hash(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 over config, tokenizer and safetensors files.

    Raises:
        ValueError: the folder holds no safetensors weights.
    """
    files = sorted(
        p for p in folder.iterdir() if p.suffix == ".safetensors" or p.name in ("config.json", "tokenizer.json")
    )
    if not any(p.suffix == ".safetensors" for p in files):
        raise ValueError(f"model folder {folder} has no *.safetensors weights: save it with `save_pretrained`")
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def config(name: str) -> Any:
    """The model's configuration; no weights are read, and for the registered models nothing is downloaded.

    Raises:
        ValueError: unknown model, or a configuration that cannot be used.
    """
    from transformers import AutoConfig, LlamaConfig

    entry = find(name)
    if entry.llama:
        return LlamaConfig(**entry.llama)
    # Of a hub model this downloads the config alone: too large a model is refused before its weights are fetched.
    source = TINY_FOLDER if name == "tiny" else entry.hub_id or name
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"model {name}: config.json is not usable ({str(error).splitlines()[0][:120]})") from None


def build(name: str, device: str = "meta") -> Any:
    """The architecture alone: without storage on "meta", else with random weights from torch's generator; float32.

    Raises:
        ValueError: unknown model, or not a causal language model.
    """
    from transformers import AutoModelForCausalLM

    found = config(name)
    with torch.device(device):
        try:
            model = AutoModelForCausalLM.from_config(found, attn_implementation="sdpa")
        except ValueError:
            raise ValueError(f"model {name}: {type(found).__name__} is not a causal language model") from None
    model.config.use_cache = False
    return model.train()


def shapes(name: str) -> Shapes:
    """Parameter names and shapes of the base model, tied ones once; no weights are read.

    Raises:
        ValueError: unknown model, or not a causal language model.
    """
    return {parameter: tuple(tensor.shape) for parameter, tensor in build(name).named_parameters()}


def architecture(name: str) -> ModelRef:
    """What a measurement on random weights is keyed by: the model's name and the hash of its shapes."""
    return ModelRef(find(name).name, digest({k: list(v) for k, v in shapes(name).items()}), "random")


def load(located: Located, precision: str, device_map: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer, in train mode, fp32 or bf16.

    Args:
        located: where the files are.
        precision: "fp32" or "bf16".
        device_map: "balanced" to spread the layers over several GPUs.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        located.path,
        dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="sdpa",
        device_map=device_map,
    )
    tokenizer = AutoTokenizer.from_pretrained(located.path, trust_remote_code=False)
    model.config.use_cache = False
    return model.train(), tokenizer

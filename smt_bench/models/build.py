"""The models: where weights come from, their architecture, and how they are loaded.

Only safetensors weights, never remote code. Sizes of the registered models are known without any download, so that
impossible requests and missing hardware are named before anything is fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from smt_bench.machine.remembered import remembered
from smt_bench.methods.base import Shapes
from smt_bench.models.inventory import Inventory, inventory
from smt_bench.models.locate import Located
from smt_bench.models.preflight import check_config
from smt_bench.models.quantized import quantize
from smt_bench.models.registry import find
from smt_bench.models.unpack import unpack
from smt_bench.records.runs import ModelRef, digest


def config(name: str, layers: int | None = None) -> Any:
    """The model's configuration; no weights are read, and for the registered models nothing is downloaded.

    Args:
        name: of the model.
        layers: so many repeated blocks instead of the model's own.

    Raises:
        ValueError: unknown model, a configuration that cannot be used, or more layers than the model has.
    """
    found = _config(name)
    if layers is None:
        return found
    text = found.get_text_config()
    own = text.num_hidden_layers
    if not 1 <= layers <= own:
        raise ValueError(f"--layers {layers}: {name} has {own}: choose 1 to {own}")
    text.num_hidden_layers = layers
    for field, value in vars(text).items():  # what is said of every layer is said of the first ones
        if isinstance(value, list) and len(value) == own and field.startswith(("layer", "mlp_layer")):
            setattr(text, field, value[:layers])
    return found


def _config(name: str) -> Any:
    from transformers import AutoConfig, LlamaConfig

    entry = find(name)
    if entry.llama:
        return LlamaConfig(**entry.llama)
    # Of a hub model this downloads the config alone: too large a model is refused before its weights are fetched.
    source = entry.embedded or entry.hub_id or name
    try:
        found = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"model {name}: config.json is not usable ({reason})") from None
    check_config(name, found)
    return found


def build(name: str, device: str = "meta", layers: int | None = None, dtype: torch.dtype | None = None) -> Any:
    """The architecture alone: without storage on "meta", else with random weights from torch's generator.

    Args:
        name: of the model.
        device: where.
        layers: so many repeated blocks instead of the model's own.
        dtype: of the weights, from the start; None: what the configuration says, or float32.

    Raises:
        ValueError: unknown model, or not a causal language model.
    """
    from transformers import AutoModelForCausalLM

    found = config(name, layers)
    with torch.device(device):
        try:
            model = AutoModelForCausalLM.from_config(found, **({} if dtype is None else {"dtype": dtype}))
        except ValueError as error:
            if "Unrecognized configuration class" in str(error):
                raise ValueError(f"model {name}: {type(found).__name__} is not a causal language model") from None
            raise ValueError(f"model {name}: {str(error).strip().splitlines()[0][:200]}") from None
    model.config.use_cache = False
    return unpack(model.train())


def listed(name: str, layers: int | None = None) -> Inventory:
    """The inventory of a model's layers; made once per configuration, since building even an empty model takes seconds.

    Raises:
        ValueError: unknown model, or not a causal language model.
    """
    entry = find(name)
    file = (entry.embedded or Path(name)) / "config.json"
    about = entry.llama or (file.read_text(encoding="utf-8") if file.is_file() else None)
    if about is None or layers is not None:  # the hub's may change
        return inventory(build(name, layers=layers))
    return Inventory.from_dict(remembered(["inventory", about], lambda: inventory(build(name)).to_dict()))


def shapes(name: str, layers: int | None = None) -> Shapes:
    """Parameter names and shapes of the base model, tied ones once; no weights are read.

    Raises:
        ValueError: unknown model, or not a causal language model.
    """
    return listed(name, layers).shapes


@dataclass(frozen=True)
class Whole:
    """From a model with fewer layers to all of them.

    Attributes:
        layers: how many there are.
        parameters: ratio of all parameters.
        products: ratio of those outside the input embedding, which are what products, and so FLOPs, are made of.
    """

    layers: int
    parameters: float
    products: float


def whole_model(name: str, layers: int) -> Whole:
    """What all layers are to the first `layers` of them."""

    def sizes(of: int | None) -> tuple[int, int]:
        model = build(name, layers=of)
        embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        total = sum(p.numel() for p in model.parameters())
        return total, total - (0 if embedding is head else embedding.numel())

    all_of_it, part = sizes(None), sizes(layers)
    own = config(name).get_text_config().num_hidden_layers
    return Whole(own, all_of_it[0] / part[0], all_of_it[1] / part[1])


def architecture(name: str, layers: int | None = None) -> ModelRef:
    """What a measurement on random weights is keyed by: the hash of its shapes, and the name of what is not a local folder."""
    entry, found = find(name), shapes(name, layers)
    local = entry.hub_id is None and entry.embedded is None and not entry.weightless
    weights = "random, local" if local else "random"
    return ModelRef(entry.name, digest({k: list(v) for k, v in found.items()}), weights)


def load(
    located: Located,
    precision: str,
    device_map: str | None = None,
    base: str = "",
    device: torch.device | None = None,
) -> tuple[Any, Any]:
    """Model and tokenizer, in train mode, fp32 or bf16.

    Args:
        located: where the files are.
        precision: "fp32" or "bf16".
        device_map: "balanced" to spread the layers over several GPUs.
        base: "nf4": with weights of 4 bits (`models.quantized`).
        device: where the model goes; None: it stays where its files were read to.

    Raises:
        ValueError: the files do not hold exactly the model's weights, or what quantizes is not installed.
    """
    model = _from_files(located, torch.bfloat16 if precision == "bf16" else torch.float32, device_map)
    model.config.use_cache = False
    model = unpack(model.train())
    if base:
        model = quantize(model, device)
    elif device is not None:
        model.to(device)
    return model, tokenizer(located)


def outline(located: Located) -> Any:
    """The model as its files would give it, without storage: no weight is read, only which there are.

    Raises:
        ValueError: the files do not hold exactly the model's weights.
    """
    return unpack(_from_files(located, torch.float32, "meta"))


def tokenizer(located: Located) -> Any:
    """The tokenizer beside the weights.

    Raises:
        ValueError: its files are missing or cannot be used.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(located.path, trust_remote_code=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise ValueError(
            f"model {located.ref.name}: its tokenizer is not usable ({reason}): save one beside the weights"
        ) from None


def _from_files(located: Located, dtype: torch.dtype, device_map: str | None) -> Any:
    from transformers import AutoModelForCausalLM

    with quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            located.path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            device_map=device_map,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are reported; nothing is ignored below
        )
    model, report = loaded  # a pair, since the report was asked for
    # transformers fills what is missing with random numbers and goes on. Tied weights that a file leaves out are not missing.
    faults = {
        "missing": sorted(report["missing_keys"]),
        "unexpected": sorted(report["unexpected_keys"]),
        "of another shape": sorted(name for name, *_ in report["mismatched_keys"]),
    }
    if any(faults.values()):
        told = "; ".join(f"{len(names)} {what} ({_few(names)})" for what, names in faults.items() if names)
        raise ValueError(
            f"model {located.ref.name}: its files are not those of {type(model).__name__}: {told}: save the whole "
            "causal language model with `save_pretrained`"
        )
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own report on the weights, a page of text (what it says is in the refusal), and its bars."""
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    logger, bars = logging.getLogger("transformers"), is_progress_bar_enabled()
    before = logger.level
    logger.setLevel(logging.ERROR)
    disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(before)
        if bars:
            enable_progress_bar()


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")

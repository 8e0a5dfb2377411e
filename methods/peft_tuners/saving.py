"""A tuner's files as peft writes and reads them, without peft's wrapper around the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn


class Wrapper(nn.Module):
    """Names and methods as of peft's own wrapper; `injected` is the tuner that is in the model."""

    def __init__(self, injected: Any) -> None:
        super().__init__()
        self.base_model, self.peft_config = injected, injected.peft_config

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_model"), name)


def renames(model: Any) -> bool:
    """Whether peft, on reading, takes LoRA's layers for others: those of shared experts for the matrices of all experts."""
    from peft.utils import transformers_weight_conversion as conversion

    known: dict[str, str] = vars(conversion)["_MODEL_TO_CONVERSION_PATTERN"]
    return getattr(model.config, "model_type", None) in known


def save(injected: Any, tuner: str, folder: Path) -> int:
    """Writes `adapter_config.json` and `adapter_model.safetensors`; returns how many numbers."""
    from peft import get_peft_model_state_dict

    tensors = get_peft_model_state_dict(Wrapper(injected), adapter_name="default", save_embedding_layers=False)
    around = (
        "base_model.model.model." if tuner == "lora" else "base_model.model."
    )  # `sizes.inject` put a module around it
    injected.peft_config["default"].save_pretrained(str(folder))
    return write({name.replace(around, "base_model.model.", 1): tensor for name, tensor in tensors.items()}, folder)


def write(tensors: dict[str, torch.Tensor], folder: Path) -> int:
    """The adapter's tensors, under peft's names; returns how many numbers."""
    from safetensors.torch import save_file

    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    save_file(whole, folder / "adapter_model.safetensors")
    return sum(tensor.numel() for tensor in whole.values())

"""Whether the layers of a model are all alike: what one of them costs then holds for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

PLAIN = (bool, int, float, str, type(None))


def equal_layers(model: nn.Module) -> int | None:
    """How many repeated blocks the model has, where they differ in nothing but their place; else None.

    Alike are: modules by name and type, shapes, and every plain value that a module holds, but for the block's own number. A list
    in the configuration with one value for each layer must say the same of all.

    Args:
        model: a causal language model of transformers, with or without storage.
    """
    text = model.config.get_text_config()  # type: ignore[operator, union-attr]  # a transformers model
    number = getattr(text, "num_hidden_layers", None)
    blocks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == number]
    if len(blocks) != 1:
        return None
    said = [v for v in vars(text).values() if isinstance(v, (list, tuple)) and len(v) == number]
    if any(value != of_all[0] for of_all in said for value in of_all):
        return None
    parts = [list(_parts(block)) for block in blocks[0]]
    if any(len(part) != len(parts[0]) for part in parts):
        return None
    places = list(range(len(parts)))
    for same in zip(*parts):
        names = {name for name, _ in same}
        values = [value for _, value in same]
        if len(names) > 1 or (values != places and any(value != values[0] for value in values)):
            return None
    return len(parts)


def _parts(block: nn.Module) -> Iterator[tuple[str, Any]]:
    """All that may tell one block from another, in order."""
    for path, module in block.named_modules():
        yield path, type(module).__qualname__
        for name, value in vars(module).items():
            if isinstance(value, PLAIN) or (
                isinstance(value, (list, tuple)) and all(isinstance(v, PLAIN) for v in value)
            ):
                yield f"{path} {name}", value
            elif not name.startswith("_"):
                yield f"{path} {name}", type(value).__qualname__
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            yield f"{path} {name}", None if tensor is None else (tuple(tensor.shape), tensor.dtype)

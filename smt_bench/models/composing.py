"""A base with what runs taught it: one adapter folded in, or several added up; and what two of them have in common.

Several are added up number by number: base + sum of sign (trained - base). That is the sum of sparse deltas, the sum of low-rank
products (not the product of sums), and for full fine-tuning task arithmetic (Ilharco et al., 2023). SpIEL composes its deltas and
LoRA's this way (section 5.1, table 1's last column).
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smt_bench.models.adapters import (
    FILE,
    OVER_NF4,
    about,
    base_model,
    base_of,
    changed,
    check_base,
    described,
)
from smt_bench.models.locate import Located
from smt_bench.models.unpack import pack

Change = tuple[str, Any, Tensor]  # parameter, places in it when flat (a slice: all), the numbers there after training


def merged(located: Located, place: Path) -> tuple[Any, Any]:
    """A base with a kept adapter folded in; packed, with its tokenizer.

    Raises:
        ValueError: it was made for another base, or cannot be folded in.
    """
    said = described(place)
    if said["format"] == "difference":
        return combined(located, {place / FILE: 1.0})
    from peft import PeftModel

    check_base(place, said, located)
    model, words = base_model(located, said["precision"], said.get("weights", ""))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        whole = PeftModel.from_pretrained(pack(model), place)
    if lost := next((str(w.message) for w in told if "missing adapter keys" in str(w.message)), None):
        raise ValueError(
            f"adapter {place}: peft does not find all of it ({' '.join(lost.split())[:120]}): it is left as it is"
        )
    try:
        return whole.merge_and_unload(), words
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"adapter {place} cannot be folded into the weights ({error}): take it as it is with --adapter"
        ) from None


def combined(located: Located, parts: Mapping[Path, float]) -> tuple[Any, Any]:
    """A base with differences added to it or taken from it; packed, with its tokenizer.

    One difference added alone gives the trained model bit by bit. Several are added up in float32, or float64 for float32 models.

    Args:
        located: the base.
        parts: difference file, or folder of a kept adapter in whatever format -> 1.0 (added) or -1.0 (taken).

    Raises:
        ValueError: what is neither, made for another base, or not to be folded into weights.
    """
    said = {part: said_of(part) for part in parts}
    for part, found in said.items():
        check_base(part, found, located)
    precisions = {found["precision"] for found in said.values()}
    if len(precisions) > 1:
        raise ValueError(f"adapters in {' and '.join(sorted(precisions))}: combine those of one precision")
    kinds = {weights_of(found) for found in said.values()}
    if len(kinds) > 1:
        raise ValueError("adapters made over a whole base and over one of 4 bits: combine those of one kind")
    model, words = base_model(located, precisions.pop(), kinds.pop())
    state = pack(model).state_dict()
    for part, found in said.items():
        if "shapes" in found:
            _check_shapes(part, found, state)
    if list(parts.values()) == [1.0]:
        (part,) = parts
        for name, places, values in _changes(located, part):
            _flat(state, name, part)[places] = values
        return model, words
    before: dict[str, tuple[Tensor, Tensor]] = {}
    for part, sign in parts.items():
        for name, places, values in _changes(located, part):
            flat = _flat(state, name, part)
            wide = torch.float64 if flat.dtype == torch.float32 else torch.float32
            start, total = before.setdefault(name, (flat.to(wide), flat.to(wide)))
            total[places] += sign * (values.to(wide) - start[places])
    for name, (_, total) in before.items():
        flat = state[name].view(-1)
        flat.copy_(total)
    return model, words


def compared(located: Located, one: Path, other: Path) -> dict[str, Any]:
    """What two runs' changes have in common.

    Args:
        located: their base.
        one: folder of a kept adapter, or difference file.
        other: likewise.

    Returns:
        `numbers` that each changed; how many of them both changed (`shared`), and how many two random sets of these sizes, matrix
        by matrix, share on average (`by_chance`); how many of the shared ones were moved in opposite directions (`opposed`);
        `cosine` of the two changes as vectors over all parameters, in float64 (None where one is no change).

    Raises:
        ValueError: as `combined`.
    """
    said = said_of(one)
    model, _ = base_model(located, said["precision"], weights_of(said))
    state = pack(model).state_dict()
    numbers, shared, by_chance, opposed = [0, 0], 0, 0.0, 0
    products = torch.zeros(3, dtype=torch.float64)  # of the first with itself, of both, of the second with itself
    theirs = {name: (places, values) for name, places, values in _changes(located, other)}
    numbers[1] = sum(values.numel() for _, values in theirs.values())
    squares = {name: _moved(state[name], *found).square().sum() for name, found in theirs.items()}
    products[2] = sum(squares.values(), torch.zeros((), dtype=torch.float64))
    for name, places, values in _changes(located, one):
        flat = _flat(state, name, one)
        mine = _moved(flat, places, values)
        numbers[0] += values.numel()
        products[0] += mine.square().sum()
        if name not in theirs:
            continue
        their_places, their_values = theirs[name]
        others = _moved(flat, their_places, their_values)
        products[1] += mine @ others
        both = _marked(flat, places) & _marked(flat, their_places)
        shared += int(both.sum())
        by_chance += values.numel() * their_values.numel() / flat.numel()
        opposed += int((both & (mine * others < 0)).sum())
    first, dot, second = products.tolist()
    cosine = dot / math.sqrt(first * second) if first > 0 and second > 0 else None
    return {"cosine": cosine, "numbers": numbers, "shared": shared, "by_chance": by_chance, "opposed": opposed}


def _moved(parameter: Tensor, places: Any, values: Tensor) -> Tensor:
    """A change as a flat vector in float64, 0 where nothing moved."""
    start = parameter.view(-1).double()
    made = torch.zeros_like(start)
    made[places] = values.double() - start[places]
    return made


def _marked(flat: Tensor, places: Any) -> Tensor:
    made = torch.zeros(flat.numel(), dtype=torch.bool)
    made[places] = True
    return made


def said_of(part: Path) -> Mapping[str, Any]:
    """What a difference file, or the folder of a kept adapter, says of itself.

    Raises:
        ValueError: it is neither.
    """
    if not part.is_dir():
        return about(part)
    said = described(part)
    return about(part / FILE) if said["format"] == "difference" else said


def weights_of(said: Mapping[str, Any]) -> str:
    """Of what a part says of itself, whether its base is of 4 bits ("nf4") or whole ("")."""
    return "nf4" if said["format"] == OVER_NF4 else str(said.get("weights", ""))


def _changes(located: Located, part: Path) -> Iterator[Change]:
    """What a part changes, parameter by parameter; by way of a whole model where it is in peft's format."""
    if part.is_dir() and described(part)["format"] != "difference":
        model, _ = merged(located, part)
        trained, said = model.state_dict(), described(part)
        yield from _entries(changed(trained, base_of(located, said["precision"], trained, weights_of(said))))
        return
    from safetensors import safe_open

    with safe_open(part / FILE if part.is_dir() else part, "pt") as opened:
        yield from _entries((entry, opened.get_tensor(entry)) for entry in opened.keys())  # noqa: SIM118 - not a dict


def _entries(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[Change]:
    """Of the tensors of a difference file, in which a parameter's indices and values may stand in any order."""
    halves: dict[str, dict[str, Tensor]] = {}
    for entry, tensor in tensors:
        name, _, kind = entry.rpartition(".")
        if kind == "dense":
            yield name, slice(None), tensor.flatten()
            continue
        found = halves.setdefault(name, {})
        found[kind] = tensor
        if len(found) == 2:
            yield name, found["indices"].long(), found["values"]
            del halves[name]


def _flat(state: Mapping[str, Tensor], name: str, file: Path) -> Tensor:
    if name not in state:
        raise ValueError(f"adapter {file} changes {name}, which the model does not have: choose its own base")
    return state[name].view(-1)


def _check_shapes(file: Path, said: Mapping[str, str], state: Mapping[str, Tensor]) -> None:
    for name, shape in json.loads(said["shapes"]).items():
        if name in state and list(state[name].shape) != shape:
            raise ValueError(
                f"adapter {file} has {name} as {shape}, the model as {list(state[name].shape)}: choose its own base"
            )


def composed(located: Located, places: Sequence[Path]) -> tuple[Any, Any, dict[str, Any]]:
    """A base with two kept adapters added up, its tokenizer, and what the two have in common.

    Raises:
        ValueError: as `combined`.
    """
    one, other = places
    model, words = combined(located, dict.fromkeys(places, 1.0))
    return model, words, compared(located, one, other)

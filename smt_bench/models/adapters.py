"""What a run taught a model, as a file: the numbers that differ from the base, or the adapter in peft's own format.

A difference is one safetensors file. Of every changed parameter NAME (as the model's own class calls it) it holds

    NAME.indices, NAME.values     places in the flattened parameter, in order, and the numbers there after training
    NAME.dense                    all of its numbers, where more than half changed: indices would take more room

in the type the run trained in. Its metadata say whose base (name, revision: the hash of its files), which run, which
method with its config, and the parameters' shapes. It is refused on any other base. Values, not differences, so that base
and file together are the trained model bit by bit.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smt_bench.models.build import load, quiet
from smt_bench.models.locate import Located
from smt_bench.models.quantized import make_whole
from smt_bench.models.unpack import pack

FORMAT = "smt-bench difference 1"
OVER_NF4 = "smt-bench difference 1 over nf4"  # of the dequantized base: `models.quantized`
FILE = "adapter.safetensors"
ABOUT = "smt_bench.json"  # beside it: whose base, which run
DENSE = 0.5  # share of a parameter from which all of it is stored


def changed(trained: Mapping[str, Tensor], base: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a difference file, one parameter after the other.

    Args:
        trained: state of the trained model.
        base: names and numbers of the same model before, in the same type; tied parameters may be left out.
    """
    seen: set[int] = set()
    for name, before in base:
        if trained[name].data_ptr() in seen:  # tied to one that is there already
            continue
        seen.add(trained[name].data_ptr())
        after = trained[name].detach().to(before.device)
        moved = (_bits(after) != _bits(before)).flatten()
        count = int(moved.sum())
        if count > DENSE * moved.numel():
            yield f"{name}.dense", after
        elif count:
            places = moved.nonzero().flatten()
            yield f"{name}.indices", places.to(torch.int32 if moved.numel() < 2**31 else torch.int64)
            yield f"{name}.values", after.flatten()[places]


def _bits(tensor: Tensor) -> Tensor:
    """As whole numbers: 0.0 and -0.0 differ, and what is no number is the same as itself."""
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.contiguous().view(whole)


def difference(trained: Mapping[str, Tensor], base: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """`changed` as a whole, for a file."""
    return {name: tensor.cpu().contiguous().clone() for name, tensor in changed(trained, base)}


def base_of(
    located: Located, precision: str, trained: Mapping[str, Tensor], weights: str = ""
) -> Iterator[tuple[str, Tensor]]:
    """The base's parameters, one after the other from its files; by way of a model where these name or have others.

    Args:
        located: the base.
        precision: "fp32" or "bf16".
        trained: state of a trained model.
        weights: "nf4": as they are read of a base of 4 bits.
    """
    from safetensors import safe_open

    if weights:
        yield from pack(base_model(located, precision, weights)[0]).state_dict().items()
        return
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "pt")) for path in sorted(located.path.glob("*.safetensors"))]
        owners = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - no dict
        there = {trained[name].data_ptr() for name in owners.keys() & trained.keys()}
        if owners.keys() <= trained.keys() and all(t.data_ptr() in there for t in trained.values()):
            for name, file in owners.items():
                yield name, file.get_tensor(name).to(trained[name].dtype)
            return
    base, _ = load(located, precision)
    yield from pack(base).state_dict().items()


def base_model(located: Located, precision: str, weights: str) -> tuple[Any, Any]:
    """The base that something is folded into, and its tokenizer; of 4 bits dequantized."""
    model, words = load(located, precision, base=weights)
    make_whole(model)
    return model, words


def about(file: Path) -> dict[str, str]:
    """What a difference file says of itself.

    Raises:
        ValueError: it is none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            found: dict[str, str] = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"adapter {file} cannot be read ({str(error)[:80]}): name a file that `run --keep adapters` wrote"
        ) from None
    if found.get("format") not in (FORMAT, OVER_NF4):
        raise ValueError(
            f"adapter {file} is not a difference of smt-bench (format {found.get('format')!r}): name a file that "
            "`run --keep adapters` wrote"
        )
    return found


def save(model: Any, words: Any, folder: Path) -> None:
    """A plain `transformers` folder, whole or not at all.

    Raises:
        ValueError: the folder is there and not empty.
    """
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with quiet():
            model.save_pretrained(place)
        words.save_pretrained(place)
        open_up(place)
        if folder.is_dir():
            folder.rmdir()
        place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def open_up(place: Path) -> None:
    """As other files are, where temporary ones are for their owner alone."""
    place.chmod(0o755)
    for path in place.iterdir():
        path.chmod(0o644)


def check_new(folder: Path) -> None:
    """Refuses a folder that holds something.

    Raises:
        ValueError: it does, or is a file.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: choose a new folder")


def described(place: Path) -> dict[str, Any]:
    """What is known of a kept adapter: `format`, `key`, `base`, `revision`, `precision`.

    Raises:
        ValueError: there is none.
    """
    try:
        found: dict[str, Any] = json.loads((place / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(
            f"no adapter is kept in {place}: `run ... --keep adapters` keeps those of the runs that it does"
        ) from None
    return found


def check_base(what: Path, said: Mapping[str, Any], located: Located) -> None:
    """Refuses an adapter on any other base.

    Raises:
        ValueError: its base has another content.
    """
    if said["revision"] != located.ref.revision:
        raise ValueError(
            f"adapter {what} was made for {said['base']} of revision {said['revision']}, {located.ref.name} has revision "
            f"{located.ref.revision}: choose its own base"
        )

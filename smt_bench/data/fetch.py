"""Brings a data family's files onto this machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from smt_bench.data.collection import Collection
from smt_bench.data.family import Family
from smt_bench.machine.facts import cache_folder
from smt_bench.machine.files import write_whole


def fetch_data(family: Family, say: Callable[[str], None], asked: Sequence[str] = ()) -> Path:
    """Downloads a family's training and test sets through `datasets`, unless they are here; returns their folder.

    Args:
        family: which one.
        say: one-line messages.
        asked: test sets asked for by name, of which some come only then.

    Raises:
        ValueError: they can be downloaded nowhere, the collection cannot be reached, or a file is not the pinned one.
    """
    if family.mixtures:
        from smt_bench.data.hub import fetch_mixtures

        return fetch_mixtures(family, cache_folder() / family.name, say)
    if family.collection is None:
        raise ValueError(f"data family {family.name} cannot be downloaded: pass its folder with --data")
    try:
        from datasets import DownloadConfig, DownloadManager
    except ImportError:
        raise ValueError(
            f"downloading {family.name} needs the datasets package: pip install datasets, or pass the data's folder with --data"
        ) from None

    manager = DownloadManager(download_config=DownloadConfig(max_retries=1))
    root = cache_folder() / family.collection.title.lower()
    names = [f"dataset/{task.name}/test.json" for task in family.files(asked)]
    if family.mixture is not None:
        names.insert(0, f"ft-training_set/{family.mixture}")
    else:
        names += [f"dataset/{task.name}/train.json" for task in family.tasks]
    for name in names:
        target = root / name
        if target.is_file():
            continue
        say(f"downloading {name}")
        try:
            got = manager.download(f"{family.collection.url}/{name}")
        except Exception as error:  # whatever the transport raises, the remedy is the same
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
            raise ValueError(
                f"{name} of the {family.collection.title} collection cannot be downloaded ({reason}): clone the collection on a "
                "machine with a network and pass its folder with --data"
            ) from None
        check_pinned(family.collection, name, Path(got))
        with Path(got).open("rb") as source:
            write_whole(target, partial(shutil.copyfileobj, source))
    return root


def check_pinned(collection: Collection, name: str, file: Path) -> None:
    """Refuses another content than the pinned one.

    Args:
        collection: which one.
        name: path in it.
        file: what came.

    Raises:
        ValueError: its hash differs; names without a pin pass.
    """
    lines = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    found = hashlib.sha256(lines).hexdigest()
    pinned = collection.sha256.get(name, found)
    if found != pinned:
        raise ValueError(
            f"{name} of the {collection.title} collection is not the pinned file (SHA-256 {found[:16]}, expected {pinned[:16]}): "
            "fetch it again, or pass a folder of your own with --data"
        )

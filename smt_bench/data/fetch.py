"""Brings the LLM-Adapters collection onto this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from smt_bench.data.datasets import MIXTURES
from smt_bench.data.tasks import TASKS
from smt_bench.machine.facts import cache_folder

LLM_ADAPTERS = "https://raw.githubusercontent.com/AGI-Edgerunners/LLM-Adapters/main"


def data_folder() -> Path:
    """Where `fetch_data` puts the LLM-Adapters collection."""
    return cache_folder() / "llm-adapters"


def fetch_data(family: str, say: Callable[[str], None]) -> Path:
    """Downloads a family's mixture and test sets of the LLM-Adapters collection through `datasets`.

    Raises:
        ValueError: the collection cannot be reached.
    """
    from datasets import DownloadConfig, DownloadManager

    manager = DownloadManager(download_config=DownloadConfig(max_retries=1))
    root = data_folder()
    names = [f"ft-training_set/{MIXTURES[family]}"]
    names += [f"dataset/{t.name}/test.json" for t in TASKS.values() if t.family == family and t.source != "tiny"]
    for name in names:
        target = root / name
        if target.is_file():
            continue
        say(f"downloading {name}")
        try:
            got = manager.download(f"{LLM_ADAPTERS}/{name}")
        except Exception as error:  # whatever the transport raises, the remedy is the same
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
            raise ValueError(
                f"{name} of the LLM-Adapters collection cannot be downloaded ({reason}): clone the collection on a "
                "machine with a network and pass its folder with --data"
            ) from None
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        shutil.copyfile(got, part)
        part.rename(target)
    return root

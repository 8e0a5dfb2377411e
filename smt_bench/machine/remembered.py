"""What takes seconds to find out and follows from files alone: kept in the cache folder, under the hash of all it follows from.

Nothing is ever taken from it that could be otherwise now: the name is a hash over the question, the versions of the packages that
answer it and every line of this package. A file that cannot be read or written is as if there were none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from smt_bench.machine.facts import cache_folder
from smt_bench.machine.files import write_text

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "sentencepiece", "tiktoken")


def remembered(about: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives, made once for the same `about`, code and packages.

    Args:
        about: all that the answer follows from besides, as plain JSON: contents or hashes of files, never names alone.
        make: gives plain JSON values; what it raises is raised and not kept.
    """
    asked, path = _place(about)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["asked"] == asked:
            return kept["answer"]
    answer = make()
    with contextlib.suppress(OSError):
        write_text(path, json.dumps({"asked": asked, "answer": answer}))
    return answer


def known(about: Any) -> bool:
    """Whether there is an answer; arguments as `remembered`'s. It may still turn out to be unreadable."""
    return _place(about)[1].is_file()


def _place(about: Any) -> tuple[str, Path]:
    asked = json.dumps([about, code(), {name: _version(name) for name in PACKAGES}, platform.python_version()])
    return asked, cache_folder() / "remembered" / f"{hashlib.sha256(asked.encode()).hexdigest()}.json"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def code() -> str:
    """Hash of all of this package, methods included: a dozen milliseconds."""
    whole = hashlib.sha256()
    for folder, below, names in os.walk(Path(__file__).resolve().parents[1], followlinks=True):
        below.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                whole.update(name.encode() + hashlib.sha256(Path(folder, name).read_bytes()).digest())
    return whole.hexdigest()

"""Files that hold what was declared before a run: `analysis.json` and `tuning.json`, each beside its table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smt_bench.machine.files import write_text

SCHEMA = 1


def read(
    path: Path, part: str, remedy: str, check: Callable[[dict[str, Any]], None] = lambda found: None
) -> dict[str, Any] | None:
    """What is in such a file; None: there is none.

    Args:
        path: of the file.
        part: name of what has to be in it: values by hash.
        remedy: what to do where the file is damaged.
        check: shown that part; what it raises for a missing or odd value means a damaged file, a ValueError what it says.

    Raises:
        ValueError: it cannot be read, or a newer version wrote it.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] > SCHEMA:
            raise ValueError(f"{path} was written by a newer version: update smt-bench")
        assert isinstance(found[part], dict)
        check(found[part])
        return found
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, AssertionError, json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{path} is damaged: {remedy}") from None


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Replaces such a file, whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + "\n")

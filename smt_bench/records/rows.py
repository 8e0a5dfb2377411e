"""What a measurement has found so far, kept in a file, so that one that is interrupted goes on after its last row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smt_bench.machine.files import write_text


class Rows:
    """Rows by name, plain JSON values.

    Args:
        path: the file; None keeps nothing.
        made: what the rows are made with (packages, commit); those made with something else are not taken up.
    """

    def __init__(self, path: Path | None = None, made: Mapping[str, Any] | None = None) -> None:
        self.path, self.made = path, json.loads(json.dumps(made or {}))
        self._rows: dict[str, Any] = {}
        if path is not None:
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                if kept["made"] == self.made:
                    self._rows = dict(kept["rows"])
            except (OSError, ValueError, KeyError, TypeError):  # not there, or not whole: measured again
                pass

    def get(self, name: str) -> Any:
        """A row; None where there is none yet."""
        return self._rows.get(name)

    def put(self, rows: Mapping[str, Any]) -> None:
        """Adds rows, or replaces those of the same names."""
        self._rows |= rows
        if self.path is not None:
            write_text(self.path, json.dumps({"made": self.made, "rows": self._rows}))

"""Long tests are left out unless a marker expression asks for them, e.g. `pytest -m "slow or slurm"`."""

from __future__ import annotations

import pytest

MARKERS = {"slow": "takes more than half a minute; part of .ci/run", "slurm": "starts a real SLURM; part of .ci/run"}


def pytest_configure(config: pytest.Config) -> None:
    for name, what in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {what}")
    if not config.option.markexpr:
        config.option.markexpr = " and ".join(f"not {name}" for name in MARKERS)

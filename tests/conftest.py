"""Long tests are left out unless a marker expression asks for them, e.g. `pytest -m "slow or not slow"`."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than half a minute; part of .ci/run")
    if not config.option.markexpr:
        config.option.markexpr = "not slow"

"""Imports run one way: the layers in pyproject.toml hold, so that a file can be read knowing only what lies below it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers import ROOT

COMMAND = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]


def lint(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--no-cache", *args], cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


def test_no_module_imports_from_above_or_beside() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout[-2000:]


def test_an_import_upwards_is_seen(tmp_path: Path) -> None:
    """The same contract over a small package of that shape: a rule that nothing can break would pass above as well."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contract = settings[settings.index("[tool.importlinter]") :].replace('"smt_bench"', '"small"')
    (tmp_path / "pyproject.toml").write_text(contract.replace("exhaustive = true", "exhaustive = false"))
    layers = [name.strip() for line in contract.split("layers = [")[1].split("]")[0].splitlines() for name in
              line.strip(' ",').replace("|", " ").replace(":", " ").split()]  # fmt: skip
    for name in layers:
        (tmp_path / "small" / name).mkdir(parents=True)
        (tmp_path / "small" / name / "__init__.py").write_text("")
    (tmp_path / "small" / "__init__.py").write_text("")
    assert lint(tmp_path).returncode == 0
    (tmp_path / "small" / "machine" / "__init__.py").write_text("import small.training\n")
    done = lint(tmp_path)
    assert done.returncode == 1 and "small.machine is not allowed to import small.training" in done.stdout


@pytest.mark.parametrize("package", ["methods", "experiments"])
def test_the_links_lead_to_the_top_level_folders(package: str) -> None:
    link = ROOT / "smt_bench" / package
    assert link.is_symlink() and link.resolve() == ROOT / package


def test_no_two_test_files_share_a_name() -> None:
    """pytest imports them by name alone: of two it collects one, and only a run of both folders tells."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert not [name for name, count in names.items() if count > 1]

"""The command itself: its version, its help, what it says of an option that there is not; and a record's question again."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import golden
import pytest
from helpers import ROOT, Cli

from smt_bench import __version__
from smt_bench.records.store import Store

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_console_command_is_the_module(cli: Cli) -> None:
    module, _, name = PROJECT["scripts"]["smt-bench"].partition(":")
    assert module == "smt_bench.__main__" and callable(getattr(import_module(module), name))
    done = cli("--version")
    assert done.returncode == 0 and done.stdout.split() == ["smt-bench", __version__]
    assert __version__ == PROJECT["version"]


@pytest.mark.parametrize("args", [(), ("check",)])
def test_help_is_no_error(args: tuple[str, ...], cli: Cli) -> None:
    done = cli(*args)
    assert done.returncode == 2 and done.stdout.startswith("Usage:") and "error" not in done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("run", "plateau", "--fraction", "1"), "no option --fraction of run: did you mean --fractions?"),
        (("export", "ab", "out", "--parquet"), "no option --parquet of export: `records FILE.parquet` writes it"),
        (("tune", "plateau", "--fractions", "1"), "no option --fractions of tune: did you mean --fraction?"),
        (("run", "plateau", "--method", "lora"), "no option --method of run: did you mean --methods?"),
        (("run", "plateau", "--sed", "1"), "no option --sed of run: did you mean --seeds?"),
        (("table", "plateau", "--xyz", "1"), "no option --xyz of table: see --help"),
        (("--versoin",), "no option --versoin: did you mean --version?"),
    ],
)
def test_a_wrong_option_names_the_right_one(args: tuple[str, ...], said: str, cli: Cli) -> None:
    done = cli(*args)
    assert (done.returncode, done.stderr.strip()) == (2, f"error: {said}")


def test_completion_can_be_installed(cli: Cli) -> None:
    assert "--install-completion" in cli("--help").stdout


def test_a_question_asked_again_is_kept_beside_its_record(cli: Cli, tmp_path: Path) -> None:
    results = tmp_path / "results"
    golden.call(
        "run", "plateau", "--preset", "smoke", "--methods", "lora", "--steps", "2", "--limit", "2", "--tasks", "facts-2",
        "--results", str(results),
    )  # fmt: skip
    (old,) = Store(results).records()
    done = cli("rerun", old["key"][:6])
    assert done.returncode == 0 and "DIFFERS" not in done.stdout and "losses: all 2 the same" in done.stdout, (
        done.stderr
    )
    (new,) = Store(results / "rerun").records()
    assert new["key"] == old["key"] and new["started"] >= old["finished"]
    assert [r["started"] for r in Store(results).records()] == [old["started"]]
    done = cli("rerun", old["key"])
    assert done.returncode == 2 and "is in" in done.stderr and "--into" in done.stderr

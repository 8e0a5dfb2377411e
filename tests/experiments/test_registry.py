"""What is registered: each of a type, known without being imported, and open to other packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

from smt_bench import experiments, methods
from smt_bench.evidence import words
from smt_bench.methods.base import Method
from smt_bench.questions.experiment import Bundle, Experiment, MeasuringExperiment, TrainingExperiment
from smt_bench.registry import Registry

HEAVY = {"torch", "pandas", "scipy", "matplotlib", "transformers", "peft"}
KEY = min(path.stem for path in (ROOT / "results" / "reference" / "runs").glob("*.json"))
THEIRS = """
import torch

from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import grid
from smt_bench.report.table import Table


class Theirs(TrainingExperiment):
    name = "theirs"
    reproduces = "a table of another package"
    needs = "any model"

    def method_names(self, planner):
        return planner.method_names(["lora"])

    def cells(self, planner):
        return grid(planner, self.method_names(planner))

    def render(self, records, folder, model):
        rows = [[record["run"]["method"]["name"], record["status"]] for record in records]
        return Table(f"Theirs on {model}", ["method", "status"], rows).write(folder, "theirs")


made = Theirs()
"""


def package(folder: Path, points: dict[str, str], source: str = THEIRS) -> None:
    """An installed package that registers experiments: a module, and the metadata that pip would write."""
    info = folder / "their_package-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "their_module.py").write_text(source)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[smt_bench.experiments]", *lines]) + "\n")


def command(place: Path, *args: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which tells what it imports on standard error."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, dict.fromkeys((path, ROOT))))}
    program = [sys.executable, "-X", "importtime", "-m", "smt_bench", *args]
    return subprocess.run(program, capture_output=True, text=True, cwd=place, env=environment, timeout=300, check=False)


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Top-level modules of a `command`."""
    return set(re.findall(r"^import time: .*\| +([^.\s]+)", done.stderr, re.MULTILINE))


@pytest.mark.parametrize("name", experiments.REGISTRY.own)
def test_every_experiment_is_of_a_type_and_says_what_its_source_says(name: str) -> None:
    found = experiments.REGISTRY.find(name)
    assert found.name == name
    said = experiments.REGISTRY.words(name, "reproduces", "needs")
    assert said == {"reproduces": found.reproduces, "needs": found.needs} and all(said.values())
    if isinstance(found, Bundle):
        assert len(experiments.members(name)) == len(set(found.members)) > 1
        with pytest.raises(ValueError, match=rf"{name} stands for .*: choose one of them"):
            experiments.find(name)
        return
    assert isinstance(found, TrainingExperiment) != isinstance(found, MeasuringExperiment)
    assert experiments.members(name)[0].name == name and found.families
    assert found.needs_inputs or not isinstance(found, TrainingExperiment)
    assert not isinstance(found, MeasuringExperiment) or found.version >= 1


@pytest.mark.parametrize("name", methods.REGISTRY.own)
def test_every_method_says_what_its_source_says(name: str) -> None:
    found = methods.find(name)
    assert issubclass(found, Method) and found.name == name
    assert methods.REGISTRY.words(name, "summary") == {"summary": found.summary} and found.summary
    assert words.known(name) == words.Shown(found.title, found.look, found.order)
    assert words.rank("no method") == (Method.order, "no method")


@pytest.mark.parametrize(
    "args", [("--help",), ("list",), ("list", "experiments", "--json"), ("status",), ("show", KEY)]
)
def test_looking_around_imports_nothing_heavy(args: tuple[str, ...], tmp_path: Path) -> None:
    where = ("--results", str(ROOT / "results" / "reference")) if args[0] in ("status", "show") else ()
    done = command(tmp_path, *args, *where)
    assert done.returncode == 0 and done.stdout
    assert "typer" in imported(done) and not imported(done) & HEAVY


def test_a_table_needs_no_torch(tmp_path: Path) -> None:
    done = command(tmp_path, "table", "plateau", "--results", str(ROOT / "results" / "reference"), "--out", "here")
    assert done.returncode == 0 and "| SMT" in done.stdout
    assert "pandas" in imported(done) and not imported(done) & {"torch", "transformers"}


@pytest.mark.slow
def test_an_experiment_of_another_package_runs_to_its_table(tmp_path: Path) -> None:
    package(tmp_path / "site", {"theirs": "their_module:Theirs"})
    listed = command(tmp_path, "list", "experiments", path=tmp_path / "site")
    assert re.search(r"^  theirs +a table of another package +any model$", listed.stdout, re.MULTILINE)
    assert not imported(listed) & {*HEAVY, "their_module"}
    done = command(
        tmp_path, "run", "theirs", "--preset", "smoke", "--steps", "2", "--limit", "2", path=tmp_path / "site"
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert "# Theirs on tiny" in done.stdout and re.search(r"lora +\| done", done.stdout)
    assert (tmp_path / "results" / "theirs" / "tiny" / "theirs.csv").exists()


def test_names_of_other_packages_are_looked_for_after_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="unknown experiment 'theirs'"):
        experiments.find("theirs")
    package(tmp_path, {"theirs": "their_module:made", "plateau": "their_module:Theirs"})
    monkeypatch.syspath_prepend(tmp_path)
    assert experiments.REGISTRY.names() == [*experiments.REGISTRY.own, "theirs"]
    assert type(experiments.find("plateau")).__module__ == "smt_bench.experiments.accuracy.plateau"
    found = experiments.find("theirs")  # an instance, of whose class the entry point says nothing
    assert isinstance(found, Experiment)
    assert experiments.REGISTRY.words("theirs", "needs") == {"needs": "any model"}
    with pytest.raises(ValueError, match="unknown experiment 'thiers': did you mean theirs?"):
        experiments.find("thiers")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:Theirs", r"'ours' \(no_such_module:Theirs\) cannot be imported \(No module named"),
        ("their_module:Missing", r"cannot be imported .*: mend or remove the package their-package 1.0"),
        ("their_module:TrainingMode", "'ours': their_module:TrainingMode is no experiment: mend"),
        ("their_module:Theirs", "their_module:Theirs calls itself 'theirs': give both one name"),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(
    value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, {"ours": value}, THEIRS + "\nclass TrainingMode: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_module", raising=False)
    with pytest.raises(ValueError, match=message):
        experiments.find("ours")


def test_words_come_from_a_base_in_another_module_or_from_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "words_base.py").write_text("class Plain:\n    about: str = 'plain ' 'words'\n    name = 'a'\n")
    (tmp_path / "words_own.py").write_text(
        "from words_base import Plain as Other\n\n\nclass Own(Other):\n    pass\n\n\n"
        "class Made(Own):\n    about = 'made'.upper()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def accept(found: Any) -> Any:
        return found

    registry = Registry("word", "no.group", {"a": "words_own:Own"}, accept)
    assert registry.words("a", "about") == {"about": "plain words"} and "words_own" not in sys.modules
    assert Registry("word", "no.group", {"a": "words_own:Made"}, accept).words("a", "about") == {"about": "MADE"}


def test_a_broken_entry_of_another_package_hides_nothing_else(tmp_path: Path) -> None:
    package(tmp_path / "site", {"broken": "no_such_module:X"})
    done = command(tmp_path, "list", "experiments", path=tmp_path / "site")
    assert done.returncode == 0 and "  plateau " in done.stdout and "broken" not in done.stdout
    assert "warning: experiment 'broken' (no_such_module:X) cannot be imported" in done.stderr
    assert "mend or remove the package their-package 1.0" in done.stderr

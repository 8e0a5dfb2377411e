"""`table` and `figure` need the records alone: no folder of the model, and with --out nothing is written beside the records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers import ROOT, Cli

from smt_bench.records.index import INDEX, Index
from smt_bench.records.runs import Run
from smt_bench.records.trust import SCHEMA, sealed

REFERENCE = ROOT / "results" / "reference"


def results(folder: Path, experiment: str, model: str = "tiny", called: str = "tiny") -> Path:
    """The committed runs of an experiment, as if their model had another name."""
    store, place = folder / "runs", folder / experiment / called.replace("/", "--")
    store.mkdir(parents=True)
    place.mkdir(parents=True)
    index = json.loads((REFERENCE / experiment / model / INDEX).read_text())
    renamed: dict[str, str] = {}
    for key in Index.read(REFERENCE / experiment / model).keys:
        record = json.loads((REFERENCE / "runs" / f"{key}.json").read_text())
        record["run"]["model"]["name"] = called
        record["key"] = renamed[key] = Run.from_dict(record["run"]).key
        record = {name: part for name, part in record.items() if name != "sha256"} | {"schema": SCHEMA}
        (store / f"{record['key']}.json").write_text(sealed(record))
    index["settings"] = {index["latest"]: list(renamed.values())}
    (place / INDEX).write_text(json.dumps(index))
    return folder


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()
    }


@pytest.mark.parametrize(("command", "ending"), [("table", ".md"), ("figure", ".png")])
def test_out_leaves_the_results_alone(command: str, ending: str, cli: Cli, tmp_path: Path) -> None:
    shown = results(tmp_path / "results", "selection")
    before = contents(shown)
    done = cli(command, "selection", "--out", "elsewhere")
    if command == "figure":  # this one draws none, but only after looking
        assert done.returncode == 2 and "selection draws no figure" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        written = sorted(p.name for p in (tmp_path / "elsewhere" / "selection" / "tiny").iterdir())
        assert "table8.md" in written and INDEX not in written
    assert contents(shown) == before and {p.name for p in shown.iterdir()} == {"runs", "selection"}
    assert not list(tmp_path.glob(f"results/**/*{ending}"))


def test_a_figure_goes_there_too(cli: Cli, tmp_path: Path) -> None:
    shown = results(tmp_path / "results", "gradients")
    before = contents(shown)
    done = cli("figure", "gradients", "--out", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / line).is_file() and line.startswith("elsewhere/") for line in done.stdout.split())
    assert done.stdout and contents(shown) == before


def test_results_that_nobody_can_write_to(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    shown, access = results(tmp_path / "results", "selection"), os.access
    # Tests may run as root, who can write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(shown)) and access(path, mode))
    done = cli("table", "selection")
    assert done.returncode == 2 and "is not writable: choose another with --out" in done.stderr
    assert cli("table", "selection", "--out", "elsewhere").returncode == 0


def test_out_that_is_a_file(cli: Cli, tmp_path: Path) -> None:
    results(tmp_path / "results", "selection")
    (tmp_path / "taken").write_text("x")
    done = cli("table", "selection", "--out", "taken")
    assert done.returncode == 2 and "taken is a file, not a folder: choose another with --out" in done.stderr


@pytest.mark.parametrize("given", ["mine", "models/mine", "gone/models/mine/"])
def test_a_model_whose_folder_is_gone(given: str, cli: Cli, tmp_path: Path) -> None:
    for experiment in ("selection", "anatomy"):
        results(tmp_path / experiment, experiment, called="mine")
        done = cli("table", experiment, "--model", given, "--results", experiment)
        assert done.returncode == 0, done.stderr
        assert (f"note: {given} is not here: results of mine" in done.stderr) == (given != "mine")
        assert "mine" in done.stdout and "tiny" not in done.stdout.splitlines()[0]


def test_a_model_called_like_a_registered_one(cli: Cli, tmp_path: Path) -> None:
    results(tmp_path / "results", "selection", called="local-tiny")
    assert cli("table", "selection", "--model", "somewhere/else/tiny").returncode == 0
    done = cli("table", "selection", "--model", "tiny")
    assert done.returncode == 2 and "no runs of selection on tiny" in done.stderr


def test_an_unknown_model_without_results(cli: Cli, tmp_path: Path) -> None:
    results(tmp_path / "results", "selection")
    done = cli("table", "selection", "--model", "mine")
    assert done.returncode == 2 and "unknown model 'mine'" in done.stderr
    shutil.rmtree(tmp_path / "results")

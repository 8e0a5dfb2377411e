"""`--track`: runs told to a tracker, and none of its business."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import Cli

from smt_bench.records.store import Store
from smt_bench.sweep import tracking

SMALL = (
    "run",
    "plateau",
    "--preset",
    "smoke",
    "--methods",
    "lora",
    "--tasks",
    "facts-math",
    "--steps",
    "2",
    "--limit",
    "2",
)


class Heard:
    """A tracker of accelerate's kind."""

    made: list[Heard] = []

    def __init__(self, project: str, **options: Any) -> None:
        self.project, self.options, self.said, self.config, self.ended = project, options, [], {}, False
        Heard.made.append(self)

    def start(self) -> None:
        """Begins."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.config = values

    def log(self, values: dict[str, float], step: int) -> None:
        self.said.append((step, values))

    def finish(self) -> None:
        self.ended = True


class Broken(Heard):
    def log(self, values: dict[str, float], step: int) -> None:
        raise ConnectionError("no network")


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: object())
    Heard.made = []


def use(monkeypatch: pytest.MonkeyPatch, kind: type[Heard]) -> None:
    monkeypatch.setattr("accelerate.tracking.LOGGER_TYPE_TO_CLASS", {"wandb": kind})


def test_a_run_is_told_step_by_step_and_its_numbers_at_the_end(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: None
) -> None:
    use(monkeypatch, Heard)
    done = cli(*SMALL, "--track", "wandb")
    assert done.returncode == 0, done.stderr
    (record,) = Store(tmp_path / "results").records()
    (heard,) = Heard.made
    assert heard.ended and heard.options == {"name": record["key"]}
    steps = [(step, values["train/loss"]) for step, values in heard.said[:-1]]
    assert steps == [(i, pytest.approx(loss, abs=1e-6)) for i, loss in enumerate(record["training"]["losses"], start=1)]
    last, numbers = heard.said[-1]
    assert last == 2 and numbers["done"] == 1.0 and numbers["heldout/nll"] == record["heldout"]["nll"]
    assert heard.config["method.name"] == "lora" and heard.config["seed"] == record["run"]["seed"]


def test_a_tracker_that_fails_changes_no_run(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: None
) -> None:
    assert cli(*SMALL).returncode == 0
    (quiet,) = Store(tmp_path / "results").records()
    use(monkeypatch, Broken)
    done = cli(*SMALL, "--results", "other", "--track", "wandb")
    assert done.returncode == 0, done.stderr
    (loud,) = Store(tmp_path / "other").records()
    assert loud["status"] == "done" and loud["key"] == quiet["key"]
    for part in ("training", "heldout", "evaluation"):
        assert json.dumps(loud[part]) == json.dumps(quiet[part])


@pytest.mark.slow  # a search of seven runs
def test_trials_are_told_too(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: None) -> None:
    use(monkeypatch, Heard)
    done = cli("tune", *SMALL[1:], "--trials", "1", "--track", "wandb")
    assert done.returncode == 0, done.stderr
    keys = {record["key"] for record in Store(tmp_path / "results").records()}
    assert {heard.options["name"] for heard in Heard.made} == keys and len(keys) > 1


@pytest.mark.parametrize(("name", "word"), [("clearml", "choose from"), ("mlflow", "pip install mlflow")])
def test_what_is_not_there_is_refused_before_anything_is_done(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, word: str
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda package: None)
    done = cli(*SMALL, "--track", name)
    assert done.returncode == 2 and word in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_tensorboard_gets_files(cli: Cli, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    done = cli(*SMALL, "--track", "tensorboard")
    assert done.returncode == 0 and "given up" not in done.stderr, done.stderr
    (record,) = Store(tmp_path / "results").records()
    found = events.EventAccumulator(str(tmp_path / "results" / "tracking" / record["key"]))
    found.Reload()
    told = [(e.step, pytest.approx(e.value, rel=1e-4)) for e in found.Scalars("train/loss")]
    assert told == list(enumerate(record["training"]["losses"], start=1))

"""Measurements asked again: what is no machine's has to come out again, seconds and bytes are shown side by side."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import golden
import pytest
from helpers import Cli, tiny_llama

from smt_bench.data.family import Family
from smt_bench.data.loading import load
from smt_bench.experiments import REGISTRY
from smt_bench.machine import facts
from smt_bench.models import build, locate
from smt_bench.questions import measured
from smt_bench.questions.compare import DIFFERS, EQUIVALENT, IDENTICAL, pairs
from smt_bench.questions.experiment import MeasuringExperiment
from smt_bench.questions.measured import CLOSE, compare, inputs_of
from smt_bench.records.runs import ANY_MACHINE, Measurement
from smt_bench.records.store import Store
from smt_bench.records.trust import sealed

FOUND = {
    "nll": 2.0, "tokens": 70, "rms": {"layers.0": 2e-6, "layers.1": 1e-6}, "name": "q",
    "blocks": {f"layers.{i}": [[i, 1]] for i in range(100)},
}  # fmt: skip


def judged(
    change: dict[str, Any],
    exact: bool,
    machine: str = ANY_MACHINE,
    now: str | None = None,
    repeats: tuple[str, ...] = (),
) -> dict[str, tuple[bool | None, str]]:
    old = {"run": {"machine": machine}, "status": "done", "message": None, "result": FOUND}
    new = {**old, "run": {"machine": now or machine}, "result": {**copy.deepcopy(FOUND), **change}}
    return {point.what: (point.same, point.told) for point in compare(old, new, exact, repeats)}


def other_blocks(count: int) -> dict[str, Any]:
    return {"blocks": {**FOUND["blocks"], **{f"layers.{i}": [[i + 1, 1]] for i in range(count)}}}


@pytest.mark.parametrize(
    ("change", "near"),
    [
        ({}, True),
        ({"rms": {"layers.0": 2e-6 * (1 + CLOSE / 2), "layers.1": 1e-6}}, True),
        ({"rms": {"layers.0": 2e-6, "layers.1": 1e-6 + 1.5 * CLOSE * 1e-6}}, True),  # of the largest of its kind
        ({"rms": {"layers.0": 2e-6 * (1 + 2 * CLOSE), "layers.1": 1e-6}}, False),
        ({"nll": 2.0 * (1 + 2 * CLOSE)}, False),
        ({"nll": math.nan}, False),
        ({"nll": math.inf}, False),
        ({"nll": None}, False),
        ({"rms": {"layers.0": 2e-6}}, False),
        ({"rms": {}}, False),
        ({"tokens": 71}, False),  # there is one of it: nothing was chosen
        ({"name": "k"}, False),
        (other_blocks(2), True),  # 2 of 200 numbers
        (other_blocks(3), False),
        ({"blocks": {}}, False),
    ],
)
def test_what_is_no_machines_has_to_come_out_again(change: dict[str, Any], near: bool) -> None:
    assert judged(change, False)["values"][0] is near
    assert judged(change, True)["values"][0] is not bool(change)  # to the last digit where that is asked


def test_seconds_are_shown_and_not_judged() -> None:
    slower = {"rms": {"layers.0": 3e-6, "layers.1": 1e-6}}
    found = judged(slower, True, "a CPU")
    assert list(found) == ["outcome", "seconds and bytes of this machine"]
    same, told = list(found.values())[1]
    assert same is None and "1 of 205 differ" in told and "rms/layers.0: 50 %" in told
    lacking = judged({"rms": {}}, False, "a CPU", "a GPU")["seconds and bytes of this machine"]
    assert "3 of 206 differ" in lacking[1] and "no number to compare" in lacking[1]


def test_what_repeats_on_a_machine_is_judged_there() -> None:
    assert judged({"nll": 2.0 + 1e-9}, True, "a CPU", repeats=("nll", "tokens"))["values"][0] is False
    assert judged({"rms": {}}, True, "a CPU", repeats=("nll", "tokens"))["values"] == (True, "all 2 the same")
    assert "values" not in judged({"nll": 3.0}, False, "a CPU", "a GPU", repeats=("nll",))
    for name in REGISTRY.names():
        if isinstance(found := REGISTRY.find(name), MeasuringExperiment) and not found.needs_inputs:
            assert found.repeats or found.reads_data or name == "kernels", name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    golden.call("run", "domains", "--preset", "smoke", "--results", str(folder))
    return folder


def test_a_measurement_is_asked_again(cli: Cli, made: Path, tmp_path: Path) -> None:
    (record,) = Store(made).records()
    before = cli("rerun", record["key"][:8], "--results", str(made), "--allow-code")
    assert before.returncode == 2 and "--allow-code: domains is judged by no test set" in before.stderr
    done = cli("rerun", record["key"][:8], "--results", str(made))
    assert done.returncode == 0 and "bit by bit" in done.stdout and "  same  values: all" in done.stdout, done.stderr
    (again,) = Store(made / "rerun").records()
    assert again["key"] == record["key"] and again["result"] == record["result"]

    assert [pair.outcome for pair in pairs(Store(made), Store(made / "rerun"))] == [IDENTICAL]
    text = next(iter(record["result"]["domains"]))
    layer = next(iter(record["result"]["domains"][text]["rms"]))
    record["result"]["domains"][text]["rms"][layer] *= 1 + 1e-9
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{record['key']}.json").write_text(sealed(record))
    done = cli("check", "record", record["key"], "--results", str(tmp_path))
    assert done.returncode == 1 and "DIFFERS  values: 1 of" in done.stdout and layer in done.stdout, done.stdout
    outcomes = [pair.outcome for pair in pairs(Store(made), Store(tmp_path))]
    assert outcomes == [EQUIVALENT]

    record["result"]["domains"][text]["rms"][layer] *= 2
    record["result"]["domains"][text]["blocks"] = []
    (tmp_path / "runs" / f"{record['key']}.json").write_text(sealed(record))
    assert [pair.outcome for pair in pairs(Store(made), Store(tmp_path))] == [DIFFERS]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 7}, "is of version 7 of domains, here is 1: use the version that wrote it"),
        ({"model": {"name": "tiny", "revision": "another", "weights": "embedded"}}, "of tiny's weights another"),
        ({"settings": {"domains": {"code": "x", "legal": "y"}}}, "other text than was planned with (code, legal"),
    ],
)
def test_what_cannot_be_asked_again_is_refused(
    cli: Cli, made: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    (record,) = Store(made).records()
    run = record["run"]
    run |= {**change, "settings": {**run["settings"], **change.get("settings", {})}}
    record["key"] = Measurement.from_dict(run).key
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{record['key']}.json").write_text(sealed(record))
    for command in (["rerun"], ["check", "record"]):
        done = cli(*command, record["key"], "--results", str(tmp_path))
        assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "rerun" / "runs").exists()


def asked(kind: str, **change: Any) -> dict[str, Any]:
    """A stored question about a machine."""
    model = {"name": "tiny", "revision": build.architecture("tiny").revision, "weights": "random"}
    run = {
        "kind": kind,
        "version": REGISTRY.find(kind).version,
        "model": model,
        "settings": {},
        "machine": "x",
        "seed": 0,
    }
    return {"key": "k", "run": {**run, **change}, "environment": {"gpus": []}}


def test_a_question_about_a_machine_becomes_one_about_this_one(tmp_path: Path) -> None:
    found = REGISTRY.find("memory")
    question, inputs = inputs_of(asked("memory"), found, None, None)
    assert question.machine == facts.one_line() and inputs.source(question.model) == "tiny"
    tiny_llama().save_pretrained(tmp_path / "renamed")
    local = build.architecture(str(tmp_path / "renamed"))
    model = {"name": "as-it-was-called", "revision": local.revision, "weights": local.weights}
    question, inputs = inputs_of(asked("memory", model=model), found, str(tmp_path / "renamed"), None)
    assert inputs.source(question.model) == str(tmp_path / "renamed")
    with pytest.raises(ValueError, match="has other shapes than the record's"):
        inputs_of(asked("memory", model=model), found, "tiny", None)
    with pytest.raises(ValueError, match="looks at no data"):
        inputs_of(asked("memory"), found, None, "data")
    with pytest.raises(ValueError, match="was measured on an H200"):
        inputs_of(asked("memory") | {"environment": {"gpus": ["an H200"]}}, found, None, None)
    entry = {"name": "smt", "version": 0}
    with pytest.raises(ValueError, match="is of version 0 of smt"):
        inputs_of(asked("memory", settings={"methods": [entry]}), found, None, None)


def test_without_what_quantizes_a_base_of_four_bits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smt_bench.methods.nf4.find_spec", lambda name: None)
    for kind, settings in (("memory", {"base": "nf4"}), ("kernels", {"part": "nf4"})):
        with pytest.raises(ValueError, match="--base nf4: needs bitsandbytes"):
            inputs_of(asked(kind, settings=settings), REGISTRY.find(kind), None, None)


def refuse(family: Family, say: object) -> Path:
    raise ValueError(f"{family.name}: no network")


def test_the_data_of_a_measurement_are_found_by_their_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"name": "tiny", "revision": locate.locate("tiny").ref.revision, "weights": "embedded"}
    data = load(None, "instructions", (), 30, None, mixture="world-mixed")
    about = {"family": "instructions", "train_sha256": data.train_sha256, "heldout": 30}
    stored = asked("saturation", machine=ANY_MACHINE, settings={"data": about}, model=model)
    _, inputs = inputs_of(stored, REGISTRY.find("saturation"), None, None)
    assert inputs.data.train_source == data.train_source and inputs.data.heldout == data.heldout
    monkeypatch.setattr(measured, "fetch_data", refuse)
    for change, told in (
        ({"family": "mine"}, "the data of mine are your own"),
        ({"heldout": 31}, "instructions: no network"),
    ):
        other = asked("saturation", machine=ANY_MACHINE, settings={"data": {**about, **change}}, model=model)
        with pytest.raises(ValueError, match=told):
            inputs_of(other, REGISTRY.find("saturation"), None, None)

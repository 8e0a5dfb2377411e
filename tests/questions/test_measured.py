"""Measurements asked again: what is no machine's has to come out again, seconds and bytes are shown side by side."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import golden
import pytest
from helpers import Cli

from smt_bench.questions.compare import DIFFERS, EQUIVALENT, IDENTICAL, pairs
from smt_bench.questions.measured import CLOSE, compare
from smt_bench.records.runs import ANY_MACHINE
from smt_bench.records.store import Store
from smt_bench.records.trust import sealed


def answer(machine: str, result: dict[str, Any] | None) -> dict[str, Any]:
    made = {"run": {"machine": machine}, "status": "done", "message": None, "result": result}
    return {name: value for name, value in made.items() if value is not None or name == "message"}


FOUND = {"rms": {"layers.0": 2e-6, "layers.1": 1e-6}, "blocks": [[0, 1], [3, 4]], "name": "q"}


def judged(
    machine: str, change: dict[str, Any], exact: bool, now: str | None = None
) -> dict[str, tuple[bool | None, str]]:
    new = answer(now or machine, {**copy.deepcopy(FOUND), **change})
    return {point.what: (point.same, point.told) for point in compare(answer(machine, FOUND), new, exact)}


@pytest.mark.parametrize(
    ("change", "exact", "near"),
    [
        ({}, True, True),
        ({"rms": {"layers.0": 2e-6 * (1 + CLOSE / 2), "layers.1": 1e-6}}, False, True),
        ({"rms": {"layers.0": 2e-6 * (1 + 2 * CLOSE), "layers.1": 1e-6}}, False, False),
        ({"name": "k"}, True, False),
        ({"blocks": [[0, 1], [3, 5]]}, True, False),
        ({"blocks": [[0, 1], [3, 5]]}, False, False),  # one of seven values; 1 % may differ
    ],
)
def test_what_is_no_machines_has_to_come_out_again(change: dict[str, Any], exact: bool, near: bool) -> None:
    found = judged(ANY_MACHINE, change, exact)
    assert found["values"][0] is near
    assert judged(ANY_MACHINE, change, True)["values"][0] is not bool(change)  # to the last digit where that is asked


def test_few_values_may_differ_elsewhere() -> None:
    many = {"blocks": list(range(400))}
    old, new = answer(ANY_MACHINE, many), answer(ANY_MACHINE, {"blocks": [*range(396), 1, 1, 1, 1]})
    assert compare(old, new, False)[-1].same and not compare(old, new, True)[-1].same
    new["result"]["blocks"][:2] = [7, 7]
    assert not compare(old, new, False)[-1].same


def test_seconds_are_shown_and_not_judged() -> None:
    found = judged("a CPU", {"rms": {"layers.0": 3e-6, "layers.1": 1e-6}}, True)
    assert list(found) == ["outcome", "seconds and bytes, which are a machine's own"]
    same, told = list(found.values())[1]
    assert same is None and "1 of 7 differ" in told and "rms.layers.0: 50 %" in told
    assert judged("a CPU", {"more": 1.0}, True)["what was measured"][0] is False
    assert judged("a CPU", {"more": 1.0}, False, "a GPU")["what was measured"][0] is None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    golden.call("run", "domains", "--preset", "smoke", "--results", str(folder))
    return folder


def test_a_measurement_is_asked_again(cli: Cli, made: Path, tmp_path: Path) -> None:
    (record,) = Store(made).records()
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

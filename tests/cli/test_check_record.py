"""`check record`: the same question gives the same answer, and where it does not the exit code says so."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden
import pytest
from helpers import Cli

from smt_bench.questions import again
from smt_bench.questions.agreement import LOSS, NATS, compare, unlike
from smt_bench.records.runs import Run
from smt_bench.records.store import Store
from smt_bench.records.trust import sealed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    golden.call(
        "run", "plateau", "--preset", "smoke", "--methods", "smt", "--steps", "4", "--limit", "3", "--select", "best",
        "--vary", "data", "--seeds", "3", "--limit-heldout", "10", "--forgetting", "embedded", "--results", str(folder),
    )  # fmt: skip
    return folder


def record_of(folder: Path) -> dict[str, Any]:
    (record,) = Store(folder).records()
    return record


def test_a_record_is_reproduced_bit_by_bit(cli: Cli, made: Path) -> None:
    key, data = record_of(made)["key"], record_of(made)["run"]["data"]
    assert (data["heldout"], data["aside"], len(record_of(made)["heldout"]["examples"]["loglik"])) == (10, 16, 10)
    done = cli("check", "record", key[:8], "--results", str(made))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compared bit by bit" in done.stdout and "DIFFERS" not in done.stdout
    assert re.search(r"losses: all 4 the same", done.stdout) and "0 of 15 differ" in done.stdout
    assert "outcome: done, now done\n" in done.stdout


def test_a_record_that_is_not_reproduced_ends_with_1(cli: Cli, made: Path, tmp_path: Path) -> None:
    record = record_of(made)
    record["training"]["losses"][1] *= 1 + 1e-6
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{record['key']}.json").write_text(sealed(record))
    done = cli("check", "record", record["key"], "--results", str(tmp_path))
    assert done.returncode == 1 and "DIFFERS  losses: 1 of 4 differ, number 2" in done.stdout
    assert "not reproduced" in done.stderr


def test_the_data_of_an_older_record_are_those_that_it_looked_at(made: Path) -> None:
    """Its hash left out what was set aside and not looked at, and so did its parts."""
    record = record_of(made)
    run = Run.from_dict(record["run"])
    data = again.data_of(run, record, None)
    assert data.tune(run.data.split_seed) == [bool(v) for v in record["heldout"]["examples"]["tune"]]
    older = replace(run, data=replace(run.data, divided="", train_sha256=data.hashed("")))
    assert older.data.train_sha256 != run.data.train_sha256 and older.key != run.key
    assert again.data_of(older, record, None).heldout == data.heldout
    with pytest.raises(ValueError, match="training examples here are not the record's"):
        again.data_of(replace(older, data=replace(older.data, divided="aside")), record, None)


def other_loss(part: dict[str, Any]) -> None:
    part["examples"]["loglik"][0] -= 99.0
    part["nll"] += 1.0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: r["training"]["losses"].__setitem__(2, 9.0), "losses"),
        (lambda r: r["training"]["grad_norms"].pop(), "gradient norms"),
        (lambda r: r["heldout"].update(nll=r["heldout"]["nll"] + 2 * NATS), "held-out loss"),
        (lambda r: r["evaluation"]["facts-2"]["examples"].update(prediction=["solution9"] * 3), "predictions"),
        (lambda r: r.update(status="diverged"), "outcome"),
        (lambda r: other_loss(r["losses"]["general-embedded"]), "loss of general-embedded"),
        (lambda r: r.pop("losses"), "loss of general-embedded"),
    ],
)
def test_every_part_is_compared(made: Path, change: Any, what: str) -> None:
    old = record_of(made)
    new = json.loads(json.dumps(old))
    change(new)
    for exact in (True, False):
        assert {p.what for p in compare(old, new, exact) if not p.same} == {what}
    assert all(p.same for p in compare(old, old, True))


def test_an_outcome_names_its_reason_where_there_is_one(made: Path) -> None:
    old = record_of(made)
    lost = old | {"status": "failed", "message": "no room"}
    assert [compare(old, new, True)[0].told for new in (old, lost)] == ["done, now done", "done, now failed: no room"]


def test_elsewhere_small_differences_are_allowed(made: Path) -> None:
    old = record_of(made)
    new = json.loads(json.dumps(old))
    new["training"]["losses"] = [loss * (1 + LOSS / 2) for loss in new["training"]["losses"]]
    new["heldout"]["nll"] += NATS / 2
    new["method"] = {}
    assert all(p.same for p in compare(old, new, False))
    assert {p.what for p in compare(old, new, True) if not p.same} == {
        "losses",
        "held-out loss",
        "what the method decided",
    }
    assert unlike(old, old) == []
    other = {**old, "environment": {**old["environment"], "threads": 64}}
    assert len(unlike(old, other)) == 1 and "threads" in unlike(old, other)[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("check record zzz", "key 'zzz': no record"),
        ("check record {key} --model nowhere/at-all", "nowhere/at-all"),
        ("run plateau --seeds 100", "--seeds 100: those are for tuning"),
        ("run plateau --vary model", "--vary 'model'"),
        ("run plateau --select worst", "--select 'worst'"),
        ("run plateau --select best --zero 2 --processes 2", "--select best: with --zero 2"),
        ("run plateau --tuned", "--tuned: nothing was tuned yet"),
        ("run speed --model bench-60m --select best", "--select: speed measures"),
        ("run learning-rate --seeds 0", "--seeds 0: choose at least 100"),
        ("run learning-rate --tuned", "--tuned: learning-rate uses no rates"),
        ("tune speed --model bench-60m", "tune speed: it has no rates"),
        ("tune learning-rate", "tune learning-rate: it has no rates"),
        ("tune plateau --trials 0", "--trials 0: choose a whole number"),
        ("tune plateau --fraction 1,2", "--fraction: choose one"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, made: Path, words: str, said: str) -> None:
    done = cli(*words.format(key=record_of(made)["key"]).split(), "--results", str(made))
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_embedded_weights_of_another_version_are_named_so(cli: Cli, made: Path, tmp_path: Path) -> None:
    record = record_of(made)
    record["run"]["model"]["revision"] = "v1-0123456789abcdef"
    record["key"] = Run.from_dict(record["run"]).key
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{record['key']}.json").write_text(sealed(record))
    done = cli("check", "record", record["key"], "--results", str(tmp_path))
    assert done.returncode == 2 and "which came with another version of smt-bench" in done.stderr
    assert done.stderr.count("\n") == 1 and "--model" not in done.stderr

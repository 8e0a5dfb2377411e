"""What is refused of a record, and that refusing changes nothing on the disk."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, Cli

from smt_bench.data.tasks import same
from smt_bench.records.shapes import RECORD
from smt_bench.records.store import SCHEMA, Store
from smt_bench.records.survey import look, survey
from smt_bench.records.trust import Damaged, Newer, _same, examined, sealed

RUNS = ROOT / "results" / "reference" / "runs"
# An option task and an arithmetic one, each with some wrong answers; both of schema 1, without a seal.
BEFORE_SEALS = "d2345fbada7fa5af"  # settings of the plateau whose records have schema 1
INDEX = json.loads((ROOT / "results/reference/plateau/tiny/runs.json").read_text())
PLATEAU = INDEX["settings"][BEFORE_SEALS]
KEY = PLATEAU[3]
MATH = next(
    p.stem for p in sorted(RUNS.glob("*.json")) if '"facts-math": {' in p.read_text() and "null" in p.read_text()
)


def old(key: str = KEY) -> dict[str, Any]:
    return json.loads((RUNS / f"{key}.json").read_text())


def task(record: dict[str, Any]) -> dict[str, Any]:
    return next(iter(record["evaluation"].values()))


def turned(record: dict[str, Any]) -> None:
    """All wrong answers become right ones, consistently but for the gold answers' own hash."""
    for result in record["evaluation"].values():
        result["examples"]["gold"] = result["examples"]["prediction"]
        result["examples"]["correct"] = [1] * result["n"]
        result["accuracy"], result["stderr"] = 1.0, 0.0


# What happened in the issue, and its siblings. Each is done to a record without a seal, whose parts have to give it away.
EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "accuracy": (lambda r: task(r).update(accuracy=0.99), "accuracy is 0.99, its parts say"),
    "impossible accuracy": (lambda r: task(r).update(accuracy=5.0), "accuracy is 5, its parts say"),
    "stderr": (lambda r: task(r).update(stderr=0.0), "stderr is 0, its parts say"),
    "n": (lambda r: task(r).update(n=10), "columns of other lengths than n = 10"),
    "gold": (lambda r: task(r)["examples"].update(gold=task(r)["examples"]["prediction"]), "correct is not what gold"),
    "correct": (lambda r: task(r)["examples"].update(correct=[1] * task(r)["n"]), "correct is not what gold"),
    "parsed": (lambda r: task(r)["examples"]["parsed"].__setitem__(0, 0), "parsed is not what the predictions say"),
    "failures": (lambda r: task(r).update(format_failures=7), "format_failures is 7, its parts say 0"),
    "no evaluation": (lambda r: r.update(evaluation={}), "evaluation holds nothing, asked were facts-"),
    "a task less": (lambda r: r["evaluation"].popitem(), "asked were"),
    "no examples": (lambda r: task(r).pop("examples"), r"examples is missing"),
    "no example": (lambda r: task(r).update(n=0, examples={k: [] for k in task(r)["examples"]}), "n = 0"),
    "text for a number": (lambda r: task(r).update(accuracy="0.5"), r"accuracy is text"),
    "true for a number": (lambda r: task(r).update(n=True), r"n is true or false"),
    "text among numbers": (lambda r: r["training"]["losses"].__setitem__(0, "1"), "training.losses holds text"),
    "infinity": (lambda r: r["training"]["losses"].__setitem__(0, float("inf")), "it holds Infinity"),
    "nan in a corner": (lambda r: r["environment"].update(cores=float("nan")), "it holds NaN"),
    "a huge whole number": (lambda r: r["heldout"].update(nll=10**400), "not a complete record|heldout.nll"),
    "nll": (lambda r: r["heldout"].update(nll=0.1), "heldout.nll is 0.1, its parts say"),
    "no nll": (lambda r: r["heldout"].update(nll=None), "heldout.nll is not what the log-likelihoods say"),
    "held-out examples": (lambda r: r["heldout"]["examples"]["tokens"].pop(), "99 counts of 100 examples"),
    "fraction": (lambda r: r["capacity"].update(fraction=0.5), "capacity.fraction is 0.5, its parts say"),
    "status": (lambda r: r.update(status="finished"), "status 'finished' is unknown"),
    "seed as text": (lambda r: r["run"].update(seed="0"), "run.seed is text"),
    "another rate": (lambda r: r["run"]["train"].update(lr=1.0), "its content does not match its key"),
    "no message": (lambda r: r.pop("message"), "message is missing"),
    "a list": (lambda r: r.update(run=[]), "run is a list"),
    "schema 0": (lambda r: r.update(schema=0), "not a complete record"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_what_can_be_derived_is_not_believed(edit: str) -> None:
    record = old()
    change, why = EDITS[edit]
    change(record)
    with pytest.raises(Damaged, match=why):
        examined(json.dumps(record, indent=1).encode(), KEY)


def test_committed_records_are_believed_and_upgraded() -> None:
    for path in RUNS.glob("*.json"):
        assert examined(path.read_bytes(), path.stem)["schema"] == SCHEMA
    assert "sha256" not in examined((RUNS / f"{KEY}.json").read_bytes(), KEY)


@pytest.mark.parametrize("text", ["1e999", "-1e999"])
def test_a_number_that_reads_as_infinity(text: str) -> None:
    content = (RUNS / f"{KEY}.json").read_text()
    for part, where in (
        ("memory_gib", "environment"),
        ("evaluation", "seconds.evaluation"),
        ("losses", "training.losses"),
    ):
        changed, count = re.subn(rf'("{part}": (\[\s*)?)[\d.]+', rf"\g<1>{text}", content)
        assert count == 1
        with pytest.raises(Damaged, match=f"{where} holds a number that is none"):
            examined(changed.encode(), KEY)


def test_the_rule_for_right_answers_is_that_of_the_tasks() -> None:
    golds = [4.0, 4.0, 4.0, 4.0, -1.5]
    predictions = [4.0, 4.0009, 4.002, None, -1.5]
    assert list(_same(predictions, golds)) == [same(p, g) for p, g in zip(predictions, golds)]
    golds, predictions = ["true", "false", "true"], ["true", "true", None]  # type: ignore[list-item]
    assert list(_same(predictions, golds)) == [same(p, g) for p, g in zip(predictions, golds)]
    record = old(MATH)
    examples = record["evaluation"]["facts-math"]["examples"]
    assert examples["correct"] == list(_same(examples["prediction"], examples["gold"]))


def test_a_seal_covers_what_cannot_be_derived() -> None:
    record = examined((RUNS / f"{KEY}.json").read_bytes(), KEY)
    text = sealed(record)
    assert examined(text.encode(), KEY) == record
    # Other white space and other ends of lines are not other content.
    assert examined(text.replace("\n", "\r\n").encode(), KEY) == record
    assert examined(json.dumps(json.loads(text)).encode(), KEY) == record
    for change in (turned, lambda r: r["training"].update(losses=[])):
        changed = json.loads(text)
        change(changed)
        with pytest.raises(Damaged, match="its seal .* does not match"):
            examined(json.dumps(changed, indent=1).encode(), KEY)
        del changed["sha256"]
        with pytest.raises(Damaged, match="its seal .* is missing"):
            examined(json.dumps(changed, indent=1).encode(), KEY)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: r.update(schema=SCHEMA + 1), f"schema {SCHEMA + 1}, this version reads up to {SCHEMA}"),
        (lambda r: r.update(energy={}), "it holds energy, which this version does not know"),
        (lambda r: r["run"]["train"].update(beta3=0.5), "it holds run.train.beta3, which"),
        (lambda r: task(r)["examples"].update(text=[]), r"it holds evaluation.facts-tf.examples.text, which"),
    ],
)
def test_a_newer_version_s_record_is_refused_and_stays(
    change: Callable[[dict[str, Any]], None], why: str, tmp_path: Path, cli: Cli
) -> None:
    record = examined((RUNS / f"{KEY}.json").read_bytes(), KEY)
    change(record)
    path = tmp_path / "results" / "runs" / f"{KEY}.json"
    path.parent.mkdir(parents=True)
    path.write_text(sealed(record))
    with pytest.raises(Newer, match=why):
        examined(path.read_bytes(), KEY)
    shown = cli("show", KEY)
    assert shown.returncode == 2 and "update smt-bench" in shown.stderr and shown.stderr.count("\n") == 1
    listed = cli("list", "runs")
    assert listed.returncode == 0 and listed.stdout.strip() == "runs"
    assert re.search(rf"warning: {KEY}.json left out: it h.*: update smt-bench", listed.stderr)
    with pytest.raises(ValueError, match="update smt-bench"):
        Store(tmp_path / "results").write(examined((RUNS / f"{KEY}.json").read_bytes(), KEY))
    assert path.read_text() == sealed(record) and [p.name for p in path.parent.iterdir()] == [path.name]


def test_our_own_records_are_checked_before_they_are_written(tmp_path: Path) -> None:
    record = examined((RUNS / f"{KEY}.json").read_bytes(), KEY)
    task(record)["accuracy"] = 0.99
    with pytest.raises(AssertionError, match="would not be believed"):
        Store(tmp_path).write(record)


def test_reading_changes_nothing_and_a_bad_record_costs_its_own_row_only(tmp_path: Path, cli: Cli) -> None:
    """One record without evaluation used to blank everyone's accuracy."""
    results = tmp_path / "results"
    place = results / "plateau" / "tiny"
    place.mkdir(parents=True)
    index = {**INDEX, "latest": BEFORE_SEALS, "settings": {BEFORE_SEALS: PLATEAU}}
    (place / "runs.json").write_text(json.dumps(index))
    for key in PLATEAU:
        (results / "runs").mkdir(exist_ok=True)
        shutil.copy(RUNS / f"{key}.json", results / "runs")
    runs = results / "runs"
    (runs / f"{KEY}.json").write_text(json.dumps({**old(), "evaluation": {}}))
    (runs / f"{PLATEAU[4]}.json").write_text("{half")
    (runs / "package.json").write_text("{}")
    (runs / f"{PLATEAU[5]}.json.damaged").write_text("an earlier one")

    def files() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in runs.iterdir()}

    before = files()
    for command in (["status"], ["list", "runs"], ["show", PLATEAU[0]], ["table", "plateau"]):
        done = cli(*command)
        assert done.returncode == 0 and files() == before, command
        if command[0] == "table":
            assert f"record {KEY}.json left out: evaluation holds nothing" in done.stderr
            assert f"record {PLATEAU[4]}.json left out: it is not complete JSON" in done.stderr
            assert "| SMT" in done.stdout and "nan" not in done.stdout
        if command[0] == "list":
            assert (
                "package.json is no record: ignored" in done.stderr
                and len(done.stdout.splitlines()) == len(PLATEAU) - 1
            )
    rows = json.loads(cli("status", "--json").stdout)
    states = {row["key"]: row["status"] for row in rows}
    assert states[KEY] == states[PLATEAU[4]] == "damaged" and states["package.json"] == "foreign"
    assert states[f"{PLATEAU[5]}.json.damaged"] == "set aside" and states[PLATEAU[5]] == "done"
    text = cli("status").stdout
    assert "plateau/tiny: 52 runs: 2 damaged, 50 done" in text and "runs: 2 other files: 1 set aside, 1 foreign" in text


def test_whoever_does_a_run_again_sets_its_damaged_record_aside_under_a_new_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.path(KEY)
    path.parent.mkdir()
    for content in ("first", "second"):
        path.write_text(content)
        with pytest.warns(UserWarning, match=f"{KEY}.json set aside as"):
            store.set_damaged_aside(KEY)
    path.write_text("third")
    with pytest.warns(UserWarning, match="damaged-3"):
        store.write(examined((RUNS / f"{KEY}.json").read_bytes(), KEY))
    assert store.read(KEY) is not None
    kept = {p.name.partition(".json.")[2]: p.read_text() for p in path.parent.glob("*.json.*")}
    assert kept == {"damaged": "first", "damaged-2": "second", "damaged-3": "third"}
    store.set_damaged_aside(KEY)  # a good one stays
    assert store.read(KEY) is not None


def test_a_look_at_the_beginning_sees_what_all_of_it_says(tmp_path: Path) -> None:
    for path in list(RUNS.glob("*.json"))[:20]:
        assert look(path, closely=False) == look(path, closely=True)
    torn = tmp_path / f"{KEY}.json"
    torn.write_bytes((RUNS / f"{KEY}.json").read_bytes()[:20_000])  # the end is missing
    assert look(torn, closely=False).state == "damaged"
    assert survey(tmp_path / "nowhere").files == []


def test_every_part_of_a_run_has_a_shape() -> None:
    from smt_bench.records.runs import Measurement, Run

    assert set(Run.SECTIONS + Measurement.SECTIONS) <= set(RECORD)

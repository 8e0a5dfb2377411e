"""What is to be compared is written down before the first run, and what is otherwise later is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smt_bench import experiments
from smt_bench.evidence.decisions import margins
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.questions import analysis
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.index import Index
from smt_bench.records.runs import Run
from smt_bench.records.store import Store


def runs(experiment: str = "plateau", **asked: Any) -> list[Run]:
    planner = Planner(Request(experiment, "tiny", **{"fractions_pct": (2.0, 8.0), **asked}), fits.here())
    planner.open()
    return [run for run, _ in experiments.find(experiment).runs(planner)]  # type: ignore[misc]


def below(planned: list[Run], folder: Path) -> list[str]:
    """What stands below a table of these runs, all of them done."""
    records = [{"key": run.key, "run": run.to_dict(), "status": "done"} for run in planned]
    return told_of(folder, records)


def told_of(folder: Path, records: list[dict[str, Any]]) -> list[str]:
    index = Index.read(folder)
    return analysis.lines(Plateau(), index, analysis.seen(index, records))


def missing(folder: Path, records: list[dict[str, Any]]) -> int:
    found = analysis.seen(Index.read(folder), records)
    assert (found.looks == 0) is (found.missing > 0)
    return found.missing


@pytest.fixture
def declared(tmp_path: Path) -> tuple[list[Run], Path]:
    planned = runs(methods=("smt", "lora", "full"), seeds=(0, 1))
    Index.read(tmp_path).add(planned)
    analysis.declare(Plateau(), planned, tmp_path, Store(tmp_path))
    return planned, tmp_path


def test_it_is_written_before_the_first_run_and_nothing_deviates(declared: tuple[list[Run], Path]) -> None:
    planned, folder = declared
    kept = next(iter(json.loads((folder / analysis.FILE).read_text())["analyses"].values()))
    d = kept["declared"]
    assert d["seeds"] == [0, 1] and d["methods"] == ["full", "lora", "smt"] and d["fractions"] == [0.02, 0.08]
    assert (
        d["heldout"] == {"choices": 50, "reported": 50, "seed": 0, "varies": ""}
        and d["margins"]["points"] == margins().points
    )
    texts = [claim["text"] for claim in d["claims"]]
    # Also the one about a cell that only numbers will choose.
    assert any(
        text.startswith("LoRA gains nothing at its largest fraction over its best smaller one") for text in texts
    )
    assert any(text.startswith("SMT beats LoRA") for text in texts) and len(texts) == len(set(texts)) == 4
    told = below(planned, folder)
    assert told[0].startswith("Analysis written down before the first run") and kept["sha256"] in told[0]
    assert told[1] == "Nothing deviates from it."


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seeds": (0,)}, "seeds declared but not here: 1"),
        ({"methods": ("smt", "lora", "full", "dora")}, "methods added: dora"),
        ({"fractions_pct": (2.0, 4.0, 8.0)}, "fractions added: 4 %"),
        ({"fractions_pct": (2.0,)}, "claims declared but not here"),
    ],
)
def test_what_deviates_is_listed(declared: tuple[list[Run], Path], asked: dict[str, Any], said: str) -> None:
    _, folder = declared
    later = runs(**{"methods": ("smt", "lora", "full"), "seeds": (0, 1), **asked})
    analysis.declare(Plateau(), later, folder, Store(folder))  # changes nothing
    assert said in below(later, folder)[1]


def test_other_margins_and_another_rule_are_seen(
    declared: tuple[list[Run], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, folder = declared
    judging = {"margins": {"points": 2.0, "nats": 0.01}, "rule": "the larger one wins"}
    monkeypatch.setattr(analysis, "judging", lambda: judging)
    told = below(planned, folder)[1]
    assert "another margins (points 1.0, nats 0.01, now points 2.0, nats 0.01)" in told and "another rule" in told


def test_tuned_runs_and_lost_runs_are_seen(declared: tuple[list[Run], Path]) -> None:
    planned, folder = declared
    more = [*planned, replace(planned[0], tuning="ab12")]
    records: list[dict[str, Any]] = [{"key": run.key, "run": run.to_dict(), "status": "done"} for run in more]
    records[0]["status"] = "diverged"
    told = told_of(folder, records)[1]
    assert "tuning added: ab12" in told and "1 runs without numbers" in told


def test_what_was_finished_before_and_what_was_changed_after_is_said(tmp_path: Path) -> None:
    planned = runs(methods=("lora",))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{planned[0].key}.json").write_text("{}")
    Index.read(tmp_path).add(planned)
    analysis.declare(Plateau(), planned, tmp_path, Store(tmp_path))
    assert "when 1 of its 2 runs were finished already" in below(planned, tmp_path)[0]
    path = tmp_path / analysis.FILE
    path.write_text(path.read_text().replace('"points": 1.0', '"points": 5.0'))
    assert "was changed after it was written" in below(planned, tmp_path)[0]
    path.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        below(planned, tmp_path)


def test_tables_without_one_say_nothing(tmp_path: Path) -> None:
    planned = runs(methods=("lora",))
    Index.read(tmp_path).add(planned)
    assert below(planned, tmp_path) == []


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (lambda run: True, False),
        (lambda run: run.seed == 0, True),
        (lambda run: run.seed == 0 or run.method.name != "smt", True),
        (lambda run: run.seed == 0 or run.method.fraction != 0.08, True),
        (lambda run: run.method.name != "lora", True),
        (lambda run: run.method.fraction != 0.08, True),
    ],
)
def test_claims_wait_for_every_declared_run(
    declared: tuple[list[Run], Path], here: Callable[[Run], bool], there: bool
) -> None:
    planned, folder = declared
    records = [{"key": run.key, "run": run.to_dict(), "status": "done"} for run in planned if here(run)]
    assert (missing(folder, records) > 0) is there
    told = told_of(folder, records)
    assert any("No claim is decided before" in line for line in told) is there


def test_claims_wait_neither_for_lost_runs_nor_for_what_nobody_declared(declared: tuple[list[Run], Path]) -> None:
    planned, folder = declared
    more = runs(methods=("smt", "lora", "full", "dora"), fractions_pct=(2.0, 4.0, 8.0), seeds=(0,))
    more += [replace(run, train=replace(run.train, lr=0.5)) for run in planned[:1]]  # another rate, of one seed
    Index.read(folder).add([run for run in more if run.setting == planned[0].setting])
    both = {run.key: run for run in (*planned, *more)}.values()
    records = [{"key": run.key, "run": run.to_dict(), "status": "diverged"} for run in both]
    assert missing(folder, records) == 0
    lacking = [r for r in records if r["key"] != planned[-1].key]
    assert missing(folder, lacking) == 1
    path = folder / analysis.FILE  # as it was written before it named its runs
    older = json.loads(path.read_text())
    for one in older["analyses"].values():
        del one["keys"]
    path.write_text(json.dumps(older))
    assert [missing(folder, found) for found in (records, lacking)] == [0, 1]
    path.unlink()
    assert missing(folder, records[:1]) == 0


def done(planned: list[Run]) -> list[dict[str, Any]]:
    return [{"key": run.key, "run": run.to_dict(), "status": "done"} for run in planned]


def asks(folder: Path, **asked: Any) -> list[Run]:
    """What `run` does before its first run."""
    planned = runs(**{"methods": ("smt", "lora", "full"), **asked})
    Index.read(folder).add(planned)
    analysis.declare(Plateau(), planned, folder, Store(folder))
    return planned


def test_seeds_added_later_are_another_look_shown_when_it_is_whole(declared: tuple[list[Run], Path]) -> None:
    first, folder = declared
    both = asks(folder, seeds=(0, 1, 2, 3))
    new = [run for run in both if run.seed > 1]
    asks(folder, seeds=(0, 1, 2, 3))  # goes on: no further look
    asks(folder, seeds=(3,), fractions_pct=(2.0,))  # a part of it
    (kept,) = json.loads((folder / analysis.FILE).read_text())["analyses"].values()
    assert kept["declared"]["seeds"] == [0, 1] and len(kept["keys"]) == len(first)
    assert [(look["seeds"], look["keys"]) for look in kept["later"]] == [([2, 3], [run.key for run in new])]

    part = analysis.seen(Index.read(folder), done(both[:-1]))
    assert {r["key"] for r in part.records} == {run.key for run in first} and part.looks == 1
    told = told_of(folder, done(both[:-1]))
    assert told[1:] == [
        "Nothing deviates from it.",
        f"Seeds 2, 3 are not shown before the last of their {len(new)} runs: 1 missing.",
    ]

    whole = analysis.seen(Index.read(folder), done(both))
    assert len(whole.records) == len(both) and whole.looks == 2
    told = told_of(folder, done(both))
    assert told[1] == "Nothing deviates from it."
    assert "Seeds 2, 3 were added after a look at the others, written down before their first run: hash" in told[2]
    assert told[3] == "The claims were looked at 2 times: their p values count 2 times."

    lacking = [r for r in done(both) if r["key"] != first[0].key]  # the first look is not whole
    assert analysis.seen(Index.read(folder), lacking).looks == 0
    path = folder / analysis.FILE
    path.write_text(path.read_text().replace(new[0].key, "0" * 16))
    assert "no longer theirs" in " ".join(told_of(folder, done(both) + [{**done(new)[0], "key": "0" * 16}]))


def test_a_look_at_one_seed_costs_nothing(tmp_path: Path) -> None:
    asks(tmp_path, seeds=(0,))
    asks(tmp_path, seeds=(0, 1, 2))
    more = asks(tmp_path, seeds=(0, 1, 2, 3))
    assert analysis.seen(Index.read(tmp_path), done([r for r in more if r.seed < 3])).looks == 1
    assert analysis.seen(Index.read(tmp_path), done(more)).looks == 2
    both = asks(tmp_path, seeds=(3,), methods=("dora",))  # of a seed that is no longer new
    assert analysis.seen(Index.read(tmp_path), done([*more, *both])).looks == 3


@pytest.mark.parametrize("name", experiments.REGISTRY.names())
def test_every_experiment_that_trains_declares_what_it_can(name: str) -> None:
    found = experiments.REGISTRY.find(name)
    if not isinstance(found, TrainingExperiment) or found.tunes:
        return
    family = found.families[0]
    planner = Planner(Request(name, "tiny", default_family=family), fits.here())
    planner.open()
    asked = [run.to_dict() for run, _ in found.runs(planner)]
    made = analysis.contents(found, asked)
    assert made["claims"] or name in ("rate-transfer", "frozen-warmup", "gradients", "anatomy")
    assert made == analysis.contents(found, asked[::-1]) or {c["text"] for c in made["claims"]}

"""What is to be compared is written down before the first run, and what is otherwise later is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from declarations import asks, below, done, kept, missing, runs, shown, told_of

from smt_bench import experiments
from smt_bench.evidence.decisions import margins
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.questions import analysis, deviations
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.index import Index
from smt_bench.records.runs import Run
from smt_bench.records.store import Store


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


def test_what_the_design_can_tell_and_whose_rates_it_has_are_written_down(tmp_path: Path) -> None:
    planned = runs(methods=("smt", "lora", "full"), seeds=(0, 1))
    Index.read(tmp_path).add(planned)
    sizes = {"one": 10.4, "strictest": 14.44}
    power = {"seeds": 2, "comparisons": 4, "variances": "guesses", "points": sizes}
    more = {**analysis.found_by(["", "ab12", "ab12"]), "outcome": "held-out loss", "power": power}
    analysis.declare(Plateau(), planned, tmp_path, Store(tmp_path), more=lambda: more)
    analysis.declare(Plateau(), planned, tmp_path, Store(tmp_path), more=lambda: {"power": {}})  # at first alone
    records = [{**record, "recipe": {"tuning": "ab12"}} for record in done(planned)]
    told = told_of(tmp_path, records)
    assert "it was to find 10.4 points in one comparison, 14.4 points in the strictest (guesses)" in told[0]
    assert told[0].endswith("Judged first: held-out loss.")
    assert told[1] == "Nothing deviates from it."
    for record in records:  # a rate that was asked for is no tuning's
        record["recipe"]["changed"] = {"lr": [1e-3, 2e-3]}
    assert "rates declared but not here: ab12" in told_of(tmp_path, records)[1]
    others = [{**record, "recipe": {"tuning": "cd34"}} for record in records]
    assert "rates added: cd34; rates declared but not here: ab12" in told_of(tmp_path, others)[1]


def test_what_an_older_file_does_not_name_is_said(declared: tuple[list[Run], Path]) -> None:
    planned, folder = declared
    records = done(planned)
    assert told_of(folder, records)[0].endswith(" It does not name what the design was to find.")
    for record in records:
        record["recipe"] = {"tuning": "ab12"}
    assert told_of(folder, records)[0].endswith(
        " It does not name the tuning behind the rates here (ab12) nor what the design was to find."
    )


def test_a_file_without_claims_says_that_no_verdict_was_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plateau, "declares", lambda self, records: [])  # as an experiment of figures has none
    planned = runs(methods=("full",), seeds=(0, 1))
    Index.read(tmp_path).add(planned)
    analysis.declare(Plateau(), planned, tmp_path, Store(tmp_path))
    assert below(planned, tmp_path)[0].endswith(" It declares no claim: any verdict here is exploratory.")


def test_what_was_seen_before_is_no_design(tmp_path: Path) -> None:
    first = asks(tmp_path, seeds=(0, 1))
    (tmp_path / analysis.FILE).unlink()
    for run in first:
        (tmp_path / "runs" / f"{run.key}.json").write_text(json.dumps({"key": run.key, "run": run.to_dict()}))
    store = Mock(wraps=Store(tmp_path), for_tables=lambda keys: [{"key": r.key, "run": r.to_dict()} for r in first])
    planned = runs(methods=("smt", "lora", "full"), seeds=(0, 1, 2))
    listed = [run.key for run in first]
    analysis.declare(Plateau(), planned, tmp_path, store, listed, more=lambda: {"power": {"seeds": 3}})
    assert kept(tmp_path)["declared"]["seeds"] == [0, 1] and "power" not in kept(tmp_path)["declared"]


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
    analysis.declare(Plateau(), later, folder, Store(folder))  # the declaration stays as it is
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


def test_data_that_vary_bring_their_own_untouched_model(tmp_path: Path) -> None:
    asked = {"methods": ("base", "lora"), "vary": "data"}
    first = asks(tmp_path, seeds=(0, 1), **asked)
    both = asks(tmp_path, seeds=(0, 1, 2), **asked)
    base = [run for run in both if run.method.name == "base"]
    assert len({run.key for run in base}) == 3
    assert shown(tmp_path, [run for run in both if run is not base[-1]])[0] == {run.key for run in first}


def test_controls_do_not_count_among_the_claims(tmp_path: Path) -> None:
    found = experiments.REGISTRY.find("spiel-quantized")
    planned = runs("spiel-quantized", fractions_pct=(2.0,))
    Index.read(tmp_path).add(planned)
    analysis.declare(found, planned, tmp_path, Store(tmp_path))
    claims = kept(tmp_path)["declared"]["claims"]
    assert 0 < sum(claim["control"] for claim in claims) < len(claims)
    index = Index.read(tmp_path)
    told = deviations.lines(found, index, analysis.seen(index, done(planned)))[0]
    assert f"; {sum(not claim['control'] for claim in claims)} claims, margins" in told


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

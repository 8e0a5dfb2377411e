"""What chooses and what reports never share a seed; what a seed decides is in the key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smt_bench.evidence.cells import groups
from smt_bench.experiments.accuracy.learning_rate import LearningRate
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run, seedless


def planner(**asked: Any) -> Planner:
    made = Planner(Request("plateau", "tiny", preset="smoke", methods=("lora",), **asked), fits.here())
    made.open()
    return made


@pytest.mark.parametrize(
    ("seed", "tunes", "refused"), [(100, False, True), (99, False, False), (99, True, True), (100, True, False)]
)
def test_seeds_from_a_hundred_up_are_for_choices(seed: int, tunes: bool, refused: bool) -> None:
    if refused:
        with pytest.raises(ValueError, match=rf"--seeds {seed}: .*100"):
            Request("plateau", "tiny", seeds=(seed,), tunes=tunes)
    else:
        assert Request("plateau", "tiny", seeds=(seed,), tunes=tunes).seeds == (seed,)


@pytest.mark.parametrize(
    ("asked", "said"), [({"seeds": (0, 1, 0)}, "--seeds 0"), ({"fractions_pct": (2, 2.0)}, "--fractions 2")]
)
def test_what_would_count_twice_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}.*each once"):
        Request("plateau", "tiny", **asked)


def test_the_experiment_that_chooses_rates_has_seeds_for_that() -> None:
    assert LearningRate.tunes and not Plateau.tunes
    assert planner(tunes=True).seeds() == [100] and planner().seeds() == [0]


def test_parts_are_in_the_key_and_old_questions_keep_theirs() -> None:
    run = Plateau().runs(planner())[0][0]
    assert (run.data.tune, run.data.heldout, run.data.split_seed) == (8, 16, 0)
    old = replace(run, data=replace(run.data, tune=0))
    values = old.to_dict()
    assert (
        not {"tune", "split_seed", "varies"} & set(values["data"])
        and "select" not in values["train"]
        and "tuning" not in values
    )
    assert len({run.key, old.key, replace(run, tuning="abc").key}) == 3
    for one in (run, old, replace(run, tuning="abc")):
        assert Run.from_dict(one.to_dict()) == one
    assert run.setting == replace(run, tuning="abc").setting != old.setting


def test_best_weights_are_in_the_key() -> None:
    made = planner(select="best")
    run = Plateau().runs(made)[0][0]
    assert (run.train.select, run.train.select_every) == ("best", 1) and Run.from_dict(run.to_dict()) == run
    assert run.key != Plateau().runs(planner())[0][0].key and run.setting != Plateau().runs(planner())[0][0].setting
    with pytest.raises(ValueError, match="--select-every 9: a run has 8 steps"):
        Plateau().runs(planner(select="best", select_every=9))
    with pytest.raises(ValueError, match="--select-every goes with --select best"):
        Request("plateau", "tiny", select_every=3)
    with pytest.raises(ValueError, match="--select 'first'"):
        Request("plateau", "tiny", select="first")


def test_data_that_vary_are_one_setting_and_one_cell() -> None:
    made = planner(vary="data", seeds=(0, 1, 2))
    runs = [run for run, _ in Plateau().runs(made)]
    assert len({run.data.train_sha256 for run in runs}) == len({run.key for run in runs}) == 3
    assert len({run.setting for run in runs}) == 1 and {run.data.heldout_seed for run in runs} == {0, 1, 2}
    assert runs[0].key != Plateau().runs(planner())[0][0].key  # it says that the others differ
    assert len({str(seedless(run.to_dict())) for run in runs}) == 1
    for run in runs:
        data = made.inputs(run).data
        assert data.train_sha256 == run.data.train_sha256 and sum(data.tune(run.data.split_seed)) == run.data.tune
    records = [{"key": run.key, "run": run.to_dict(), "status": "failed", "started": str(run.seed)} for run in runs]
    (cell,) = groups(records)
    assert len(cell.lost) == 3 and not cell.older
    looked_at = Plateau().runs(planner(vary="data", seeds=(0,), limit_heldout=10))[0][0]
    older = replace(looked_at, data=replace(looked_at.data, divided=""))  # which has its parts of these ten alone
    assert seedless(older.to_dict()) != seedless(looked_at.to_dict()) and older.setting != looked_at.setting


def test_what_trains_nothing_is_judged_once_per_data_set() -> None:
    def bases(**asked: Any) -> list[Run]:
        made = Planner(
            Request("plateau", "tiny", preset="smoke", methods=("base",), seeds=(0, 1), **asked), fits.here()
        )
        made.open()
        return [run for run, _ in Plateau().runs(made)]

    assert [run.seed for run in bases()] == [0] and [run.seed for run in bases(vary="data")] == [0, 1]

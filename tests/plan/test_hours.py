"""The hours of a sweep, against a naive count."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Cli

from smt_bench.data.prompts import Example, encode
from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.models import build
from smt_bench.plan import hours
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.store import Store

STEPS, BATCH, HELDOUT, LIMIT = 5, 4, 20, 6


@pytest.fixture(scope="module")
def planner() -> Planner:
    changes = {"heldout": HELDOUT, "batch_size": BATCH}
    asked = Request("plateau", "tiny", methods=("base", "full", "lora"), steps=STEPS, limit=LIMIT, changes=changes)
    made = Planner(asked, fits.here())
    made.open()
    return made


def test_a_runs_products_are_those_of_a_naive_count(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hours, "MANY", 10**9)  # every example is looked at
    tokenizer, data = build.tokenizer(planner.located), planner.data
    runs = {run.method.name: (run, capacity) for run, capacity in Plateau().runs(planner)}

    def tokens(examples: list[Example]) -> int:
        return sum(len(encode(e, tokenizer, planner.template, False, planner.recipe.cutoff).ids) for e in examples)

    judged = tokens(data.heldout) + sum(tokens(examples) for examples in data.tests.values())
    step = BATCH * tokens(data.train) / len(data.train)
    size = runs["full"][1].total
    assert hours.flops(*runs["base"], planner) == pytest.approx(2 * size * judged)
    assert hours.flops(*runs["full"], planner) == pytest.approx(2 * size * judged + 6 * size * step * STEPS)
    share = runs["lora"][1].trainable / size
    assert hours.flops(*runs["lora"], planner) == pytest.approx(
        2 * size * judged + (4 + 2 * share) * size * step * STEPS
    )


def test_generated_answers_take_their_new_tokens() -> None:
    found = {}
    for tokens in (8, 24):
        asked = Request(
            "plateau", "tiny", methods=("base",), tasks=("facts-math",), changes={"max_new_tokens_math": tokens}
        )
        one = Planner(replace(asked, limit=LIMIT), fits.here())
        one.open()
        run, capacity = Plateau().runs(one)[0]
        found[tokens] = hours.flops(run, capacity, one) / (2 * capacity.total)
    assert found[24] - found[8] == pytest.approx(LIMIT * 16)


def test_finished_runs_say_how_fast_and_the_rest_is_counted(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = [(run, capacity, planner) for run, capacity in Plateau().runs(planner)]
    store, work = Store(tmp_path), [hours.flops(*one) for one in runs]
    records = {runs[0][0].key: {"status": "done", "seconds": {"total": 2.0}}, runs[1][0].key: {"status": "failed"}}
    monkeypatch.setattr(Store, "read", lambda self, key: records.get(key))
    found = hours.hours(runs, store, 1)
    assert (found.missing, found.measured) == (len(runs) - 2, 1)
    assert found.seconds == pytest.approx(2.0 * sum(work[2:]) / work[0])
    places = [0.0] * 3  # each run begins when the first of three is free
    for flops in work[2:]:
        places[places.index(min(places))] += 2.0 * flops / work[0]
    assert found.seconds / 3 < max(places) == pytest.approx(hours.hours(runs, store, 3).seconds)
    records.clear()
    monkeypatch.setattr(hours, "matrix_rate", lambda device, dtype: 1e9)
    unknown = hours.hours(runs, store, 1)
    assert unknown.measured == 0 and unknown.seconds == pytest.approx(sum(work) / (hours.REACHED * 1e9))


def test_dry_run_says_it(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "plateau", "--methods", "base,lora", "--fractions", "4", "--dry-run", "--results", str(tmp_path))
    assert not done.returncode and re.search(r"2 runs to do: about \d+ min on this machine \(by the rate", done.stderr)
    assert "runs to do" not in done.stdout
    assert str(hours.Hours(0, 0.0, 4)) == "nothing is left to run"
    assert str(hours.Hours(9, 7200.0, 4)) == "9 runs to do: about 2.0 h on this machine (by 4 finished of these runs)"

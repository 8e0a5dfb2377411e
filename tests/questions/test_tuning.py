"""The search is fair: as many trials for every method, chosen by the part for choices and judged by seeds that did not choose."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smt_bench.experiments.accuracy.plateau import Plateau
from smt_bench.machine import fits
from smt_bench.methods.search import Span
from smt_bench.questions import tuned
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.questions.trials import Search
from smt_bench.questions.tuning import AGAIN, FIRST, MOST_WIDER, TOP, Tuning
from smt_bench.records.runs import Run, digest
from smt_bench.report.tuning import curves
from smt_bench.report.tuning.curves import tuning_curve
from smt_bench.report.tuning.tables import found_table, trials_table
from smt_bench.report.tuning.write import write

METHODS = ("full", "smt", "lora", "spiel")


class Records:
    """A store that answers every planned run by a rule: its loss on the part for choices; None: diverged."""

    def __init__(self, rule: Callable[[Run], float | None]) -> None:
        self.rule, self.there, self.known = rule, dict[str, dict[str, Any]](), set[str]()

    def answer(self, run: Run) -> None:
        loss = self.rule(run)
        heldout = {"nll": 5.0, "examples": {"loglik": [-(loss or 0.0), -9.0], "tokens": [1, 1], "tune": [1, 0]}}
        self.there[run.key] = {
            "key": run.key, "status": "diverged" if loss is None else "done", "seconds": {"total": 2.0}, "heldout": heldout,
        }  # fmt: skip

    def read(self, key: str) -> dict[str, Any] | None:
        return self.there.get(key)


@pytest.fixture(scope="module")
def planner() -> Planner:
    made = Planner(Request("plateau", "tiny", methods=METHODS, fractions_pct=(4.0,), tunes=True), fits.here())
    made.open()
    return made


def walked(planner: Planner, rule: Callable[[Run], float | None], trials: int = 8) -> tuple[Tuning, list[Search]]:
    """All stages of a tuning, each answered by the rule."""
    store = Records(rule)
    made, stages = Tuning(Plateau(), store, trials), list[Search]()  # type: ignore[arg-type]
    for _ in range(9):
        stages.append(made.search(planner))
        if stages[-1].stage == "done":
            return made, stages
        for run, _ in stages[-1].planned.values():
            if run.key not in store.there:
                store.answer(run)
    raise AssertionError("no end")


def bowl(run: Run) -> float:
    """The recipe's rate is the best for every method."""
    usual = {"full": 1e-3, "smt": 1e-3, "lora": 2e-3, "spiel": 6e-3}[run.method.name]
    return 1 + math.log10(run.train.lr / usual) ** 2


def test_every_method_gets_as_many_trials_and_the_best_are_run_again(planner: Planner) -> None:
    made, stages = walked(planner, bowl)
    assert [s.stage for s in stages] == ["trials", "again", "done"] and not stages[-1].wider
    done = stages[-1]
    assert len({s.hash for s in stages}) == 1 and set(done.methods) == set(METHODS)
    for name in METHODS:
        own = [t for t in done.trials if t.cell.method == name]
        again = [t for t in own if len(t.runs) > 1]
        assert len(own) == 8 and len(again) == TOP and {t.runs[0].seed for t in own} == {FIRST}
        assert all([run.seed for run in t.runs] == [FIRST, *AGAIN] for t in again)
        best = sorted(bowl(t.runs[0]) for t in own)[:TOP]
        assert sorted(bowl(t.runs[0]) for t in again) == best
        assert len({t.cell.lr for t in own}) == 8
        winner = made.winner(done, name)
        assert winner is not None and bowl(winner.runs[0]) == best[0]
    assert all(run.seed >= 100 and not run.tuning for run, _ in done.planned.values())


def test_a_longer_search_begins_with_the_shorter_one(planner: Planner) -> None:
    short, long = (Tuning(Plateau(), Records(bowl), n).cells(planner) for n in (3, 5))  # type: ignore[arg-type]
    assert long[: len(short)] == short and len(long) == 5 * len(METHODS)


def test_the_first_seed_does_not_choose_the_winner(planner: Planner) -> None:
    def lucky(run: Run) -> float:
        """With the first seed the lower rates look better than they are."""
        return bowl(run) if run.seed != FIRST else 5 + run.train.lr

    made, stages = walked(planner, lucky)
    done = stages[-1]
    for name in METHODS:
        again = [t for t in done.trials if t.cell.method == name and len(t.runs) > 1]
        winner = made.winner(done, name)
        assert winner in again and winner is not None
        assert bowl(winner.runs[1]) == min(bowl(t.runs[1]) for t in again)


def test_one_methods_edge_widens_the_rates_of_all(planner: Planner) -> None:
    def rule(run: Run) -> float:
        return run.train.lr**-0.1 if run.method.name == "lora" else bowl(run)

    _, stages = walked(planner, rule, trials=40)  # dense enough that the best of them is at the edge
    done = stages[-1]
    assert done.wider and set(done.wider) == {"high"} and len(done.wider) <= MOST_WIDER
    assert done.high == pytest.approx(1 + 0.5 * len(done.wider)) and done.low == -1
    for name in METHODS:
        own = [t for t in done.trials if t.cell.method == name]
        assert len(own) == 40 + 10 * len(done.wider)  # half a decade of two: a quarter of the trials, for every method
        beyond = [t for t in own if t.stage == 1]
        usual = planner.recipe.lr(name)
        assert len(beyond) == 10 and all(
            t.cell.lr / usual * 1.01 >= 10 and t.cell.lr / usual <= 32 for t in beyond if t.cell.lr
        )


def test_what_diverged_is_no_winner_and_costs_no_other_method_a_trial(planner: Planner) -> None:
    def rule(run: Run) -> float | None:
        if run.method.name == "full":
            return None
        return None if run.method.name == "smt" and run.seed == AGAIN[1] else bowl(run)

    made, stages = walked(planner, rule)
    done = stages[-1]
    assert (
        made.winner(done, "full") is None and made.winner(done, "smt") is None and made.winner(done, "lora") is not None
    )
    assert sum(t.cell.method == "full" for t in done.trials) == 8
    found = made.found(planner, done)
    rows = {row[0]: row for row in found_table(found).rows}
    assert rows["full"][3] is None and rows["full"][5] == 8 and rows["full"][6] is None and rows["LoRA"][5] == 0
    assert "diverged" in {row[2] for row in trials_table(found).rows}


def test_settings_stay_in_the_ranges_that_the_method_declares(planner: Planner) -> None:
    made = Tuning(Plateau(), Records(bowl), 30)  # type: ignore[arg-type]
    spaces = made.spaces(planner)
    assert set(spaces["smt"].spans) == {"warmup_lr_scale", "warmup_steps"} and not spaces["full"].spans
    for cell in made.cells(planner):
        for name, span in spaces[cell.method].spans.items():
            assert span.low <= cell.changes[name] <= span.high and isinstance(cell.changes[name], int) is span.whole
    fixed = Planner(replace(planner.request, settings=(("smt", "warmup_steps", 7),)), fits.here())
    assert set(made.spaces(fixed)["smt"].spans) == {"warmup_lr_scale"}


@pytest.mark.parametrize(
    "span", [Span(0.01, 100), Span(0.0, 0.2, log=False), Span(1, 27, whole=True), Span(3, 3, whole=True)]
)
def test_spans_are_uniform_on_their_scale(span: Span) -> None:
    parts = (np.arange(2000) + 0.5) / 2000
    values = [span.value(part) for part in parts]
    assert span.low <= min(values) and max(values) <= span.high and values == sorted(values)
    back = [span.part(value) for value in values]
    if span.low == span.high:
        assert back == [0.5] * 2000
    elif not span.whole:
        assert np.allclose(back, parts, atol=5e-3)  # three digits
    with pytest.raises(ValueError, match="choose a low end"):
        Span(0.0, 1.0)


def test_a_tuning_is_declared_before_it_runs_and_used_only_under_its_conditions(
    planner: Planner, tmp_path: Path
) -> None:
    made, stages = walked(planner, bowl)
    first, done = stages[0], stages[-1]
    run = planner.question("lora", 0.04, 0)
    with pytest.raises(ValueError, match="nothing was tuned yet: `tune it`"):
        tuned.winners(tmp_path, run, planner, ["lora"], "tune it")
    assert tuned.declare(tmp_path, first) and not tuned.declare(tmp_path, first)
    with pytest.raises(ValueError, match="is not finished"):
        tuned.winners(tmp_path, run, planner, ["lora"], "tune it")
    tuned.conclude(tmp_path, done, {name: made.winner(done, name) for name in METHODS})
    found = tuned.winners(tmp_path, run, planner, ["lora"], "tune it")
    assert found["lora"].tuning == first.hash and found["lora"].lr == made.winner(done, "lora").cell.lr  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="found nothing for dora"):
        tuned.winners(tmp_path, run, planner, ["dora"], "tune it")
    with pytest.raises(ValueError, match="train steps=220, here it is 10"):
        tuned.winners(tmp_path, replace(run, train=replace(run.train, steps=10)), planner, ["lora"], "tune it")
    with pytest.raises(ValueError, match="train select=last, here it is best"):
        best = replace(run, train=replace(run.train, select="best", select_every=22))
        tuned.winners(tmp_path, best, planner, ["lora"], "tune it")
    path = tmp_path / tuned.FILE
    path.write_text(path.read_text().replace('"trials": 8', '"trials": 9'))
    with pytest.raises(ValueError, match="was changed after it was declared"):
        tuned.winners(tmp_path, run, planner, ["lora"], "tune it")
    path.write_text(json.dumps({"schema": 2}))
    with pytest.raises(ValueError, match="newer version"):
        tuned.winners(tmp_path, run, planner, ["lora"], "tune it")


def asked(*settings: tuple[str, str, object], methods: tuple[str, ...] = METHODS, **more: Any) -> Planner:
    made = Planner(
        Request("plateau", "tiny", methods=methods, fractions_pct=(4.0,), tunes=True, settings=settings, **more),
        fits.here(),
    )
    made.open()
    return made


def test_a_tuning_that_looks_at_fewer_held_out_examples_is_one_of_the_same_conditions(
    planner: Planner, tmp_path: Path
) -> None:
    fewer = asked(limit_heldout=20)
    made, stages = walked(fewer, bowl)
    assert stages[-1].trials[0].runs[0].data.heldout == 20
    tuned.declare(tmp_path, stages[0])
    tuned.conclude(tmp_path, stages[-1], {name: made.winner(stages[-1], name) for name in METHODS})
    run = planner.question("lora", 0.04, 0)
    assert run.data.heldout > 20 and tuned.winners(tmp_path, run, planner, ["lora"], "tune it")
    with pytest.raises(ValueError, match=r"made with data heldout=\d+, here it is 30"):
        other = replace(run, data=replace(run.data, heldout=30))
        tuned.winners(tmp_path, other, planner, ["lora"], "tune it")
    path = tmp_path / tuned.FILE
    kept = json.loads(path.read_text())
    (old,) = kept["tunings"].values()
    # Until 2026-12 an example was in another part where others were looked at.
    del old["declared"]["under"]["data"]["divided"]
    name = digest(old["declared"])
    path.write_text(json.dumps(kept | {"latest": name, "tunings": {name: old}}))
    with pytest.raises(ValueError, match=f"tuning {name}, of an older version, chose by some of what runs report"):
        tuned.winners(tmp_path, run, planner, ["lora"], "tune it")


def test_what_was_asked_for_is_in_a_tunings_hash_and_a_condition_of_its_use(planner: Planner, tmp_path: Path) -> None:
    """Rates found for one block side, on some layers, for the best weights or by another version are not those of another."""
    usual = walked(planner, bowl)[1][-1]
    assert "asked" not in usual.declared
    others = [
        asked(("smt", "block_size", 16)),
        asked(methods=("full", "lora"), targets=("mlp",)),
        asked(select="best"),
        asked(("lora", "alpha_per_rank", 3.0)),
    ]
    hashes = {walked(other, bowl)[1][-1].hash for other in others}
    assert len(hashes | {usual.hash}) == 5

    made, stages = walked(others[0], bowl)
    tuned.declare(tmp_path, stages[0])
    tuned.conclude(tmp_path, stages[-1], {name: made.winner(stages[-1], name) for name in METHODS})
    run = planner.question("lora", 0.04, 0)
    assert tuned.winners(tmp_path, run, others[0], METHODS, "tune it")
    assert tuned.winners(tmp_path, run, planner, ["lora"], "tune it")  # its own settings were the recipe's
    with pytest.raises(ValueError, match="made with smt.block_size=16, here smt as its recipe has it"):
        tuned.winners(tmp_path, run, planner, METHODS, "tune it")
    with pytest.raises(ValueError, match="--set lora.alpha_per_rank: tuning .* searched it"):
        tuned.winners(tmp_path, run, others[3], ["lora"], "tune it")
    path = tmp_path / tuned.FILE
    path.write_text(path.read_text().replace('"version": ', '"version": 9'))
    with pytest.raises(ValueError, match="changed after|another version of lora"):
        tuned.winners(tmp_path, run, planner, ["lora"], "tune it")


def test_what_trains_nothing_cannot_be_tuned() -> None:
    with pytest.raises(ValueError, match="none of them trains anything"):
        Tuning(Plateau(), Records(bowl), 2).runs(asked(methods=("base",)))  # type: ignore[arg-type]


def test_the_curve_is_the_median_of_the_best_and_its_band_holds_the_truth() -> None:
    """Against the true median of the best of n of a known distribution, over repeated searches."""
    rng, inside, reps = np.random.default_rng(0), 0, 40
    for _ in range(reps):
        losses = [float(v) for v in rng.uniform(1.0, 2.0, 12)]
        point, low, high = tuning_curve(losses, 0.8)
        assert all(a is not None and b is not None and b <= a for a, b in zip(point, point[1:]))
        truth = [2 - 0.5 ** (1 / n) for n in range(1, 13)]  # P(min > m) = (2 - m)^n = 1/2
        inside += all((lo is None or lo <= t) and (hi is None or t <= hi) for lo, t, hi in zip(low, truth, high))
        assert low[-1] is None and high[-1] is not None  # of twelve trials nothing is known about better ones
    assert inside / reps >= 0.65
    worst = tuning_curve([1.0, 2.0, math.inf, math.inf])
    assert worst[0][-1] == 1.0 and None in worst[2]


def test_the_same_trials_have_the_same_band() -> None:
    """Its level is simulated: with the generator of `opda` half of all processes had the one step, half the other."""
    import opda.random

    losses = list(np.random.default_rng(3).random(36))
    opda.random.set_seed(4)  # whose step is 0.314
    assert tuning_curve(losses)[2][4] == pytest.approx(0.2984, abs=1e-4)


def test_figures_of_a_tuning_say_the_unit_and_a_tuning_without_curves_why(
    planner: Planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: dict[str, set[str]] = {}

    def kept(figure: Any, folder: Path, name: str, kind: str) -> Path:
        labels[name.split(".")[0]] = {axes.get_ylabel() for axes in figure.axes} - {""}
        return folder / name

    monkeypatch.setattr(curves, "save", kept)
    for trials in (8, 2):
        made, stages = walked(planner, bowl, trials)
        found = made.found(planner, stages[-1])
        assert (max(len(found.losses(method)) for method in METHODS) < curves.FEWEST) == (trials == 2)
        write(found, tmp_path)
        note = "No curves of the best of so many trials: they take at least 3 trials"
        assert (note in (tmp_path / "tuning.md").read_text(encoding="utf-8")) == (trials == 2)
    assert set(labels) == {"tuning_knobs", "tuning_curve"}
    assert all(label.endswith("held-out NLL\n(nats per token)") for found in labels.values() for label in found)
    assert all(labels.values())

"""Contestants: nothing of one stays alive after it closes, and one that runs out of memory takes no other with it."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_llama

from smt_bench import methods
from smt_bench.data.batches import Batch
from smt_bench.measuring.contestant import Contestant
from smt_bench.measuring.turns import take_turns
from smt_bench.methods.base import OptimizerSettings
from smt_bench.records.rows import Rows

SETTINGS = OptimizerSettings(1e-3)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "smt": ("smt", {"block_size": 16, "warmup_steps": 2}),
    "smt frozen": ("smt", {"block_size": 16, "warmup_steps": 2, "warmup_trains": False}),
    "spiel": ("spiel", {"update_every": 3, "estimate_steps": 2}),
    "lora": ("lora", {}),
    "dora": ("dora", {"dropout": 0.0}),
}


def batch() -> Batch:
    ids = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(0))
    return Batch(ids, ids.roll(-1, 1), 24, 24)


def make(case: str) -> Any:
    name, config = CASES[case]
    return partial(methods.build, name, config, None if name == "full" else 0.05, 0, 100)


def contestant(case: str, **how: Any) -> Contestant:
    return Contestant(case, make(case), lambda: tiny_llama().train(), **how)


def living() -> int:
    """Bytes of all tensors that something holds."""
    gc.collect()
    held = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in gc.get_objects()
        if isinstance(t, torch.Tensor) and t.device.type == "cpu"
    }
    return sum(held.values())


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_nothing_of_a_contestant_stays_alive(case: str, warmup: bool) -> None:
    one = contestant(case, warmup=warmup)
    given = batch()
    one.open(given, SETTINGS, checkpointing=True)  # what a process makes once
    one.close()
    before = living()
    one.open(given, SETTINGS, checkpointing=True)
    for _ in range(4):
        one.step()
    watched = [weakref.ref(one.model), weakref.ref(one.method), *(weakref.ref(p) for p in one.model.parameters())]
    assert living() - before > 100_000  # a model of 100,160 numbers
    one.close()
    assert [ref for ref in watched if ref() is not None] == []
    assert living() == before
    assert one.described is not None


def test_every_opening_has_a_method_of_its_own() -> None:
    one, seen = contestant("smt"), []
    for _ in range(2):
        one.open(batch(), SETTINGS, False)
        seen.append(weakref.ref(one.method))
        one.close()
    assert all(ref() is None for ref in seen)


class Small:
    """A model whose build, or whose n-th step, finds no memory."""

    def __init__(self, at: int | None) -> None:
        self.at, self.built = at, 0

    def __call__(self) -> Any:
        self.built += 1
        if self.at == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        model, calls = tiny_llama().train(), []
        if self.at is not None:

            def hook(*_: Any) -> None:
                calls.append(1)
                if len(calls) == self.at:
                    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

            model.register_forward_pre_hook(hook)
        return model


def race(*many: Contestant, resident: bool, rows: Rows | None = None, rounds: int = 4) -> Any:
    return take_turns(many, rounds, batch(), SETTINGS, False, resident, lambda *_: None, rows)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_without_memory_is_out_and_the_others_go_on(resident: bool, at: int) -> None:
    lost = Contestant("lost", make("lora"), Small(at))
    scores = race(contestant("full"), lost, contestant("spiel"), resident=resident)
    assert [len(scores[name].seconds) for name in ("full", "spiel")] == [4, 4]
    assert scores["full"].message is scores["spiel"].message is None
    message = scores["lost"].message
    assert message is not None and ("out of memory" in message or "allocate memory" in message)
    assert lost.model is lost.method is None


@pytest.mark.parametrize("resident", [True, False])
def test_a_retry_tries_again_what_found_no_memory(resident: bool, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    first = race(contestant("full"), Contestant("lost", make("lora"), Small(0)), resident=resident, rows=Rows(path))
    again = race(contestant("full"), Contestant("lost", make("lora"), Small(None)), resident=resident, rows=Rows(path))
    assert first["lost"].message is not None and again["lost"].message is None and len(again["lost"].seconds) == 4
    assert again["full"].seconds == first["full"].seconds


def test_another_error_is_not_swallowed() -> None:
    def broken() -> Any:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        race(Contestant("broken", make("lora"), broken), resident=True)


@pytest.mark.parametrize("resident", [True, False])
def test_an_interrupted_race_goes_on_after_the_last_row(resident: bool, tmp_path: Path) -> None:
    path, made = tmp_path / "rows.json", {"torch": "2"}
    builds = {case: Small(None) for case in ("full", "lora")}

    def many() -> list[Contestant]:
        return [Contestant(case, make(case), build) for case, build in builds.items()]

    taken: list[str] = []

    def stop(done: int, total: int, name: str) -> None:
        taken.append(name)
        if len(taken) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take_turns(many(), 6, batch(), SETTINGS, False, resident, stop, Rows(path, made))
    kept = Rows(path, made)
    before = {case: (kept.get(case) or {"seconds": []})["seconds"] for case in builds}
    assert sum(map(len, before.values())) >= 3
    scores = race(*many(), resident=resident, rows=kept, rounds=6)
    for case, score in scores.items():
        assert len(score.seconds) == len(score.numbers) == len(set(score.numbers)) == 6
        assert score.seconds[: len(before[case])] == before[case]  # not measured again
    assert Rows(path, {"torch": "3"}).get("full") is None  # other packages: not to be mixed
    built = {case: build.built for case, build in builds.items()}
    race(*many(), resident=resident, rows=Rows(path, made), rounds=6)
    assert {case: build.built for case, build in builds.items()} == built  # nothing was left to do


def test_steps_are_numbered_on_over_all_openings() -> None:
    """SpIEL estimates in some of its steps: were every opening to begin at step 1, a race in visits would never see them."""
    (score,) = race(contestant("spiel"), resident=False, rounds=9).values()
    assert score.numbers == [2, 3, 4, 6, 7, 8, 10, 11, 12]  # the first of an opening is not timed

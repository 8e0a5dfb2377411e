"""Experiment `spiel-cost`: the search for the smallest limit on a made-up machine, what is asked, and the verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from smt_bench import experiments
from smt_bench.evidence.published import published
from smt_bench.experiments.cost.spiel_cost import experiment, limit, tables, verdicts
from smt_bench.experiments.cost.spiel_cost.experiment import rank_of
from smt_bench.machine import fits
from smt_bench.measuring.account import CATEGORIES, Account, Phase
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.rows import Rows

GPU = fits.Machine((80 * limit.GIB,), 10**12)


@pytest.mark.parametrize("needs", [1, 2, 17, 39, 40, 79, 80])
def test_the_smallest_limit_is_found_with_the_steps_that_it_gave(needs: int) -> None:
    tried: list[int] = []

    def passes(gib: int) -> list[float] | None:
        tried.append(gib)
        return [float(gib)] if gib >= needs else None

    assert limit.smallest(1, 80, passes) == (needs, [float(needs)])
    assert len(tried) == len(set(tried)) <= 8, "the whole card, and as many halvings as 79 limits have"


def test_what_does_not_fit_the_whole_card_has_no_limit() -> None:
    tried: list[int] = []
    assert limit.smallest(1, 80, tried.append) is None and tried == [80]


class Pool:
    """Stands in for a process per limit: needs 23 GiB, and dies where it is told to."""

    calls: list[int] = []
    dies = False

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Any, model: str, s: Any, entry: Any, checkpointing: bool, seed: int, gib: int) -> Any:
        assert work is limit.steps_within
        Pool.calls.append(gib)
        if Pool.dies:
            raise limit.BrokenProcessPool
        return type("Future", (), {"result": lambda self: [0.5, 1.5] if gib >= 23 else None})()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    monkeypatch.setattr(limit, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(Pool, "calls", [])
    monkeypatch.setattr(Pool, "dies", False)
    return Pool


ENTRY = {"name": "lora", "version": 1, "fraction": 0.01, "config": {}, "variant": ""}


def test_the_protocol_keeps_every_attempt_and_goes_on_from_them(pool: type[Pool], tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.json")
    found = limit.limit_of(None, "llama-7b", {"steps": 2}, ENTRY, True, 0, 80, rows)
    assert found == {"limit_gib": 23, "step_s": 1.0}
    first = len(pool.calls)
    assert limit.limit_of(None, "llama-7b", {"steps": 2}, ENTRY, True, 0, 80, Rows(tmp_path / "rows.json")) == found
    assert len(pool.calls) == first, "nothing was tried twice"
    limit.limit_of(None, "llama-7b", {"steps": 2}, ENTRY, False, 0, 80, Rows(tmp_path / "rows.json"))
    assert len(pool.calls) == 2 * first, "another setting has attempts of its own"


def test_too_small_a_card_and_a_killed_process_have_messages(pool: type[Pool], monkeypatch: pytest.MonkeyPatch) -> None:
    assert limit.limit_of(None, "m", {"steps": 30}, ENTRY, True, 0, 16, Rows()) == {
        "message": "30 steps need more than 16 GiB"
    }
    monkeypatch.setattr(Pool, "dies", True)
    assert "killed" in limit.limit_of(None, "m", {"steps": 30}, ENTRY, True, 0, 80, Rows())["message"]


def test_an_attempt_takes_real_steps_and_lack_of_memory_fails_it(monkeypatch: pytest.MonkeyPatch) -> None:
    s = {"precision": "fp32", "batch_size": 1, "length": 8, "run_steps": 782, "steps": 3}
    entry = {**ENTRY, "name": "spiel-ma", "config": {"update_every": 2, "estimate_steps": 1}}
    seconds = limit.steps_within("tiny", s, entry, True, 0, 1)
    assert seconds is not None and len(seconds) == 3 and all(second > 0 for second in seconds)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(limit.Contestant, "step", full)
    assert limit.steps_within("tiny", s, entry, False, 0, 1) is None

    def wrong(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(limit.Contestant, "step", wrong)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        limit.steps_within("tiny", s, entry, False, 0, 1)


def test_the_limit_is_a_share_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    card = type("Card", (), {"total_memory": 80 * limit.GIB})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, _: shares.append(share))

    def stops(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(limit, "random_batch", stops)
    s = {"precision": "fp32", "batch_size": 1, "length": 8, "run_steps": 782, "steps": 3}
    assert [limit.steps_within("tiny", s, ENTRY, True, 0, gib) for gib in (20, 80)] == [None, None]
    assert shares == [0.25, 1.0]


def _asked(model: str, here: fits.Machine, **more: Any) -> list[dict[str, Any]]:
    experiment = experiments.find("spiel-cost")
    planner = Planner(Request("spiel-cost", model, **more), here)
    experiment.check(planner)
    return [question.settings for question, _ in experiment.runs(planner)]  # type: ignore[union-attr]


def test_ranks_are_the_papers_at_its_width() -> None:
    assert [rank_of(width) for width in (64, 192, 768, 4096, 5120)] == [1, 3, 12, 64, 64]


def test_the_papers_sizes_are_asked_for_and_its_protocol_on_a_gpu_only() -> None:
    parts = _asked("llama-7b", GPU)
    assert [s["part"] for s in parts] == ["memory", "time", "limit"] and parts[-1]["steps"] == 30
    entries = {(e["name"], e["variant"]): e for e in parts[0]["methods"]}
    assert set(entries) == {(name, "") for name in ("full", "lora", "peft:ia3", "spiel", "spiel-ma")}
    # 64 x (4096 + 4096) x 4 + 64 x (4096 + 11008) x 3 numbers in each of 32 layers, of 6.738 billion: the paper says 2.3 %.
    assert (
        entries["lora", ""]["fraction"]
        == entries["spiel", ""]["fraction"]
        == pytest.approx(159_907_840 / 6_738_415_616)
    )
    assert entries["lora", ""]["config"]["dropout"] == 0.1 and len(entries["lora", ""]["config"]["targets"]) == 7
    assert (
        entries["spiel", ""]["config"]["update_every"] == 20
        and entries["spiel-ma", ""]["config"]["estimate_steps"] == 5
    )
    here = _asked("bench-60m", fits.Machine((), 10**11), seeds=(0, 1))
    assert [s["part"] for s in here] == ["memory", "time", "time"]
    assert {e["variant"] for e in here[0]["methods"] if e["name"] == "spiel"} == {"", "sampled"}


def _account(total: int) -> dict[str, Any]:
    split = {**dict.fromkeys(CATEGORIES, 0), "parameters": total}
    return Account([Phase("tuning", "forward", split, split)], {"tuning": {}}, {"tuning": 1}).to_dict()


def _records(part: str, values: dict[str, tuple[float, float]], seed: int = 0) -> dict[str, Any]:
    """A record that says of every method what the paper prints."""
    rows = []
    for name, pair in values.items():
        for checkpointing, value in zip((False, True), pair):
            row = {"name": name, "variant": "", "fraction": 0.02, "checkpointing": checkpointing}
            found = {
                "memory": {"account": _account(int(value * 1e9)), "planned": _account(int(value * 1e9))},
                "time": {"step_s": [value - 1, value + 1]},
                "limit": {"limit_gib": int(value), "step_s": value},
            }
            rows.append({**row, **found[part]})
    methods = [{**ENTRY, "name": name, "config": {"dropout": 0.1}} for name in values]
    s = {"part": part, "methods": methods, "precision": "bf16", "batch_size": 1, "length": 8, "steps": 2}
    model = {"name": "llama2-7b", "revision": "x", "weights": "random"}
    run = {"kind": "spiel-cost", "version": 1, "model": model, "settings": s, "machine": "a made-up card", "seed": seed}
    return {"key": f"{part}{seed}", "run": run, "status": "done", "result": {"rows": rows}, "finished": "2026-11-28",
            "environment": {}}  # fmt: skip


def _printed(column: str) -> dict[str, tuple[float, float]]:
    table = published(tables.TABLE)
    rows = table[table["model"] == "llama2-7b"].set_index("method")
    return {n: (float(rows[column][p]), float(rows[f"{column}_checkpointing"][p])) for n, p in tables.NAMES.items()}


def test_the_papers_own_numbers_uphold_its_memory_claims_and_others_refute_them() -> None:
    printed = _printed("memory_gb")
    rows = tables._by_title(_records("memory", printed), tables._tuning_peak)
    assert rows["LoRA", False] == 40e9 and rows["SpIEL", True] == 20e9
    first, *claims = verdicts.memory_verdicts(rows, None)
    assert "all 5 claims hold" in first and all(claim.endswith(": holds.") for claim in claims)
    worse = {**rows, ("SpIEL", False): 39.9e9}  # within 1 %
    assert "34 GB against 40): does not hold." in "\n".join(verdicts.memory_verdicts(worse, None))
    assert verdicts.memory_verdicts({}, None)[0].count("5 cannot be told") == 1
    limits = {place: value / 1e9 for place, value in rows.items()}
    assert (
        "1 GiB" in verdicts.memory_verdicts(limits, "GiB")[0]
        and "all 5 claims hold" in verdicts.memory_verdicts(limits, "GiB")[0]
    )


def test_every_printed_row_has_a_name_here() -> None:
    there = {
        tables.printed_as({"name": name, "variant": v}, base)
        for name in (*tables.NAMES, "full")
        for v in ("", "sampled")
        for base in tables.BASES
    }
    assert there - {None} == set(published(tables.TABLE)["method"])


def test_over_4_bits_the_printed_rows_are_those_of_4_bits_and_no_claim_on_whole_weights_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "measured", lambda records, model: (list(records), ["made up"]))
    records = [_records("memory", _printed("memory_gb")), _records("time", _printed("step_time_s"))]
    for record in records:
        record["run"]["settings"]["base"] = "nf4"
    tables.write_spiel_cost(records, tmp_path, "llama2-7b")
    for half in ("memory", "time"):
        text = (tmp_path / f"table3_{half}.md").read_text()
        assert "| qSpIEL-MA " in text and " x qLoRA |" in text and tables.UNJUDGED in text and "Claim:" not in text
    table = pd.read_csv(tmp_path / "table3_memory.csv").set_index("printed_as")
    assert table["paper_7B"]["qlora"] == 30 and table["paper_7B_to_lora"]["qlora"] == 1
    assert pd.isna(table["peak"]["lora"]) and table["peak"]["qspiel-ag"] == 34_000.0


def test_all_parts_are_measured_over_the_base_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Enough(Exception):
        pass

    def build(*args: Any) -> Any:
        made.append(args)
        raise Enough

    monkeypatch.setattr(limit, "random_model", build)
    s = {"precision": "fp32", "batch_size": 1, "length": 8, "run_steps": 782, "steps": 1, "base": "nf4"}
    with pytest.raises(Enough):
        limit.steps_within("tiny", s, {"name": "lora", "config": {}, "fraction": 0.02}, False, 0, 1)
    assert made[0][-1] == "nf4"
    monkeypatch.setattr(experiment, "random_model", build)
    planner = Planner(Request("spiel-cost", "tiny", base="nf4"), fits.Machine((), 10**11))
    timed = next(run for run, _ in experiment.SpielCost().runs(planner) if run.settings["part"] == "time")
    with pytest.raises(Enough):
        experiment.SpielCost().measure(timed, lambda *_: None, planner.measured())
    assert made[1][-1] == "nf4"


def test_times_of_one_seed_tell_nothing_and_of_several_what_they_show() -> None:
    def seeds(count: int, ma: float) -> list[verdicts.Values]:
        return [
            {("LoRA", k): 30.0 + i / 10 for k in (False, True)}
            | {("SpIEL", k): 33.0 + i / 9 for k in (False, True)}
            | {("SpIEL-MA", k): ma + i / 11 for k in (False, True)}
            for i in range(count)
        ]

    assert "6 cannot be told" in verdicts.time_verdicts(seeds(1, 31.0))[0]
    assert "all 6 claims hold" in verdicts.time_verdicts(seeds(4, 31.0))[0]
    told = "\n".join(verdicts.time_verdicts(seeds(4, 35.0)))
    assert (
        "SpIEL-MA is faster than SpIEL, without checkpointing: SpIEL-MA takes 5.9 % more than SpIEL, does not hold"
        in told
    )


def test_all_halves_are_written_and_the_papers_rows_stand_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "measured", lambda records, model: (list(records), ["made up"]))
    records = [_records("memory", _printed("memory_gb")), _records("time", _printed("step_time_s")),
               _records("limit", _printed("memory_gb"))]  # fmt: skip
    files = tables.write_spiel_cost(records, tmp_path, "llama2-7b")
    assert {file.name for file in files} == {
        f"table3_{half}.{kind}" for half in ("memory", "time") for kind in ("md", "csv")
    }
    table = pd.read_csv(tmp_path / "table3_memory.csv").set_index("printed_as")
    assert table["peak"]["spiel-ag"] == 34_000.0 and table["limit"]["spiel-ag"] == 34
    assert table["to_lora"]["spiel-ma"] == table["paper_7B_to_lora"]["spiel-ma"] == 0.75
    assert pd.isna(table["peak"]["qlora"]) and table["paper_13B_checkpointing"]["qlora"] == 12
    text = (tmp_path / "table3_time.md").read_text()
    assert "33.400 / 44.800" in text and "33.4 / 44.8" in text and "s at the smallest limit" in text
    assert json.dumps(records)

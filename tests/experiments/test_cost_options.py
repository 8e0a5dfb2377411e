"""What the measurements of steps can be asked for, what their keys hold, and that a method without memory takes none along."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from folders import model_folder

from smt_bench import experiments
from smt_bench.experiments.cost.kernels import inplace
from smt_bench.experiments.cost.memory import experiment as memory_experiment
from smt_bench.experiments.cost.memory import process
from smt_bench.experiments.cost.speed.rows import speed_rows
from smt_bench.experiments.cost.steps import startable
from smt_bench.machine import fits
from smt_bench.machine.watch import unwatched
from smt_bench.measuring import rates, turns
from smt_bench.models import build
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.outcome import measure
from smt_bench.records.runs import Measurement
from smt_bench.records.store import Record, Store

HERE = fits.Machine((), 24 * 10**9)
SMALL: dict[str, Any] = {"preset": "smoke", "steps": 2, "batch_size": 4, "length": 16}


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine reaches is measured by every `speed`, and asked by none of these tests."""
    monkeypatch.setitem(rates.SIDES, "cpu", 64)
    monkeypatch.setitem(rates.BYTES, "cpu", 1 << 20)


def asked(name: str, model: str = "tiny", here: fits.Machine = HERE, **changes: Any) -> Measurement:
    return experiments.find(name).runs(Planner(Request(name, model, **changes), here))[0][0]


def taken(name: str, tmp_path: Path, model: str = "tiny", **changes: Any) -> Record:
    """A measurement, rendered as `run` does it."""
    experiment, planner = experiments.find(name), Planner(Request(name, model, **changes), fits.here())
    experiment.check_machine(planner, experiment.method_names(planner))
    experiment.check(planner)
    question, _ = next(iter(experiment.runs(planner)))
    inputs = planner.measured()
    record = measure(question, lambda q, watch: experiment.measure(q, watch, inputs), unwatched)
    if record["status"] == "done":
        Store(tmp_path).write(record)
        experiment.render([record], tmp_path / name, model)
    return record


@pytest.mark.parametrize("name", ["speed", "memory"])
def test_options_move_the_key_where_they_are_not_the_default(name: str) -> None:
    plain = asked(name)
    same = {
        "batch_size": 32, "length": 128, "layers": 6, "precision": "fp32", "optimizer_dtype": "fp32",
    }  # fmt: skip
    assert asked(name, **same).key == plain.key
    other: list[dict[str, Any]] = [
        {"batch_size": 4}, {"length": 64}, {"layers": 3}, {"checkpointing": True}, {"precision": "bf16"},
        {"precision": "bf16", "optimizer_dtype": "bf16"},
    ]  # fmt: skip
    keys = [asked(name, **one).key for one in other]
    assert len({plain.key, *keys}) == len(other) + 1


def test_memory_in_bf16_on_a_cpu_attends_as_training_does(tmp_path: Path) -> None:
    folder = str(model_folder(tmp_path, max_position_embeddings=512))
    whole, short, long = (asked("memory", folder, precision="bf16", length=n).settings for n in (None, 384, 385))
    assert "attention" not in long and short["attention"] == whole["attention"] == "as training"
    (entry,) = asked("memory", folder, methods=("full",), precision="bf16", length=64).settings["methods"]
    found = {}
    for length in (384, 385):  # to which plain products are quicker there; they keep matrices of length x length
        made = process.weigh(folder, {**short, "batch_size": 1, "length": length}, entry, False, 0, 1000)
        assert made["account"] == made["planned"]
        found[length] = made["saved_activations"]
    assert found[384] > 1.1 * found[385]


@pytest.mark.parametrize("name", ["speed", "memory", "kernels"])
def test_no_key_holds_the_name_of_a_local_folder(name: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 256}
    first = model_folder(tmp_path / "first", **sizes)
    shutil.copytree(first, tmp_path / "second")
    one, two = (asked(name, str(tmp_path / which)) for which in ("first", "second"))
    assert one.model.name != two.model.name and one.key == two.key and one.setting == two.setting
    other = model_folder(tmp_path / "third", num_hidden_layers=1, **sizes)
    assert asked(name, str(other)).key != one.key


@pytest.mark.slow
def test_a_base_of_4_bits_is_measured_as_planned(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: nothing can be quantized")
    memory = taken("memory", tmp_path, methods=("lora",), layers=2, base="nf4", **SMALL)
    assert memory["status"] == "done", memory["message"]
    assert memory["run"]["settings"]["base"] == "nf4"
    rows = pd.read_csv(tmp_path / "memory" / "memory.csv")
    every, part = (build.listed("tiny", n).weight_bytes(4, "nf4") for n in (None, 2))
    trained = memory["result"]["rows"][0]["trainable"]
    buffers = sum(b.numel() * b.element_size() for b in build.build("tiny", layers=2).buffers())
    assert set(rows["parameters"]) == {part + 4 * trained + buffers}
    assert rows["peak"].to_list() == rows["planned_peak"].to_list()
    states = rows[["parameters", "gradients", "optimizer_state", "master_copies", "method_state"]].sum(axis=1)
    rest = rows["logits_loss"] + rows["temporaries"]
    grown = every + build.whole_model("tiny", 2).parameters * (states - part)
    assert rows["all_layers_peak"].to_list() == pytest.approx((grown + 3 * rows["saved_activations"] + rest).to_list())
    assert "a frozen base of 4 bits" in (tmp_path / "memory" / "memory.md").read_text()


def test_fewer_layers_state_what_all_of_them_would_take(tmp_path: Path) -> None:
    speed = taken("speed", tmp_path, methods=("full", "lora"), layers=2, **SMALL)
    assert speed["status"] == "done", speed["message"]
    table = pd.read_csv(tmp_path / "speed" / "table1.csv")
    whole = build.whole_model("tiny", 2)
    assert whole.layers == 6
    assert table["all_layers_step_ms"].to_list() == pytest.approx((whole.products * table["step_ms"]).to_list())
    text = (tmp_path / "speed" / "table1.md").read_text()
    assert "2 of 6 layers" in text and "step of all layers, ms" in text
    memory = taken("memory", tmp_path, methods=("full",), layers=2, **SMALL)
    assert memory["status"] == "done", memory["message"]
    rows = pd.read_csv(tmp_path / "memory" / "memory.csv")
    states = rows[["parameters", "gradients", "optimizer_state", "master_copies", "method_state"]].sum(axis=1)
    rest = rows["logits_loss"] + rows["temporaries"]
    expected = whole.parameters * states + 3 * rows["saved_activations"] + rest
    assert rows["all_layers_peak"].to_list() == pytest.approx(expected.to_list())


def test_the_extrapolation_is_near_what_all_layers_take() -> None:
    """Parameters, and so states, exactly; of a model without much beside its layers."""
    part, whole = (sum(p.numel() for p in build.build("bench-60m", layers=n).parameters()) for n in (2, None))
    assert build.whole_model("bench-60m", 2).parameters == pytest.approx(whole / part)
    with pytest.raises(ValueError, match="--layers 9: bench-60m has 8: choose 1 to 8"):
        build.config("bench-60m", 9)


def test_every_peak_of_memory_has_its_phase_and_the_rule_is_what_is_counted(tmp_path: Path) -> None:
    changes = {"methods": ("full", "smt", "spiel", "lora"), "precision": "bf16", "checkpointing": True, **SMALL}
    record = taken("memory", tmp_path, **changes)
    assert record["status"] == "done", record["message"]
    for row in record["result"]["rows"]:
        assert row["checkpointing"] is True
        assert set(row["peaks"]) == {"load", "warmup" if row["name"] == "smt" else "attach", "tuning"}
        assert row["peak_bytes"] == max(row["peaks"].values())
        held = ("parameters", "gradients", "optimizer_state", "master_copies", "method_state")
        phases = [p for stage in row["account"]["memory_bytes"].values() for p in stage.values()]
        counted = max(sum(phase["peak"][part] for part in held) for phase in phases)
        assert row["rule_bytes"] == pytest.approx(counted, rel=0.06), row["name"]
    text = (tmp_path / "memory" / "memory.md").read_text()
    assert "loading, MB" in text and "states by rule, MB" in text


def test_bf16_adam_keeps_no_master_copies(tmp_path: Path) -> None:
    asked_for = {"methods": ("full",), "precision": "bf16", "checkpointing": False, **SMALL}
    plain, pure = (
        taken("memory", tmp_path / kind, **asked_for, optimizer_dtype=kind)["result"]["rows"][0]
        for kind in ("fp32", "bf16")
    )
    total = plain["total"]
    assert plain["rule_bytes"] == 18 * total and pure["rule_bytes"] == 8 * total  # one chunk holds this small model
    assert "optimizer in bf16" in (tmp_path / "bf16" / "memory" / "memory.md").read_text()


def test_a_method_without_memory_has_a_message_in_place_of_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = turns.Contestant.open

    def open_(self: Any, *args: Any) -> None:
        if self.name.startswith("full"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.55 GiB.")
        opened(self, *args)

    monkeypatch.setattr(turns.Contestant, "open", open_)
    record = taken("speed", tmp_path, methods=("full", "lora"), **SMALL)
    assert record["status"] == "done"
    result = record["result"]
    assert list(result["messages"]) == ["full"] and "12.55 GiB" in result["messages"]["full"]
    assert "full" not in result["milliseconds"] and len(result["milliseconds"]) == 2  # LoRA with and without dropout
    assert {row["method"] for row in speed_rows([record])} == {"lora"}
    text = (tmp_path / "speed" / "table1.md").read_text()
    assert "full: not measured, OutOfMemoryError: CUDA out of memory" in text
    monkeypatch.setattr(turns.Contestant, "open", lambda self, *args: open_(_Named("full"), *args))
    assert taken("speed", tmp_path, methods=("lora",), **SMALL)["status"] == "out_of_memory"


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


def test_a_dense_warm_up_that_cannot_fit_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tiny trains all its 2 million parameters in 33 MB; with 20, SMT's blocks are chosen by a warm-up that only looks."""
    monkeypatch.setattr(fits, "here", lambda: fits.Machine((), 20_000_000))
    record = taken("speed", tmp_path, methods=("full", "smt"), **SMALL)
    assert record["status"] == "done", record["message"]
    result = record["result"]
    assert result["messages"]["full"].startswith("does not fit: weights, gradients and optimizer alone need 0.0327 GB")
    assert "smt warm-up" not in result["milliseconds"] and "smt frozen warm-up" in result["milliseconds"]
    (entry,) = [e for e in result["entries"] if e["name"] == "smt"]
    assert entry["config"]["warmup_trains"] and entry["note"].startswith("its blocks are chosen by a frozen warm-up")
    phases = {row["phase"] for row in speed_rows([record]) if row["method"] == "smt"}
    assert "frozen_warmup_step" in phases and not phases & {
        "warmup_step",
        "step_amortised",
    }  # what it takes is not known
    monkeypatch.setattr(fits, "here", lambda: fits.Machine((), 1_000_000))
    with pytest.raises(ValueError, match="full does not fit: .* smt does not fit: .* choose fewer --layers"):
        taken("speed", tmp_path, methods=("full", "smt"), **SMALL)


def test_a_warm_up_that_was_set_off_is_not_measured(tmp_path: Path) -> None:
    changes = {**SMALL, "settings": (("smt", "warmup_trains", False),)}
    result = taken("speed", tmp_path, methods=("full", "smt"), **changes)["result"]
    assert "smt warm-up" not in result["milliseconds"] and "smt frozen warm-up" in result["milliseconds"]
    entry = {"name": "smt", "fraction": 0.02, "config": {"warmup_trains": False, "warmup_steps": 2}}
    assert startable(entry, 10**6, 10**4, HERE, {"precision": "fp32"}, 100) == (entry["config"], None, None)


def test_the_roofline_stands_beside_the_measured_ratio(tmp_path: Path) -> None:
    result = taken("speed", tmp_path, methods=("full", "lora"), **SMALL)["result"]
    assert set(result["roofline"]["rates"]) == {"bf16", "fp32", "bandwidth"}
    assert set(result["roofline"]["step_ms"]) == {entry["label"] for entry in result["entries"]}
    assert "roofline, x full" in (tmp_path / "speed" / "table1.md").read_text()


def test_memory_goes_on_after_its_last_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smt_bench.records.rows import Rows

    planner = Planner(Request("memory", "tiny", methods=("full", "lora"), checkpointing=False, **SMALL), fits.here())
    ((question, _),) = experiments.find("memory").runs(planner)
    inputs, done = planner.measured(), list[str]()
    inputs.rows = Rows(tmp_path / "rows.json", {})

    class Pool:
        """Stands for the process; the second one is interrupted, and one is out of memory."""

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: Any) -> None:
            pass

        def submit(self, work: Any, model: str, s: Any, entry: Any, *rest: Any) -> Future[Any]:
            if len(done) == 1:
                done.append("interrupted")
                raise KeyboardInterrupt
            done.append(entry["name"])
            future: Future[Any] = Future()
            future.set_result(process.weigh(model, s, entry, *rest))
            return future

    monkeypatch.setattr(memory_experiment, "ProcessPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        experiments.find("memory").measure(question, unwatched, inputs)
    inputs.rows = Rows(tmp_path / "rows.json", {})

    def none_left(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(process.Contestant, "select", none_left)
    rows = experiments.find("memory").measure(question, unwatched, inputs)["rows"]
    assert done == ["full", "interrupted", "lora", "lora"]  # the first is not measured again
    assert "account" in rows[0] and all("out of memory while attaching" in row["message"] for row in rows[1:])


def test_what_torch_refuses_is_recorded_and_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = inplace.Trial.begin

    def refusing(self: Any, kind: str, lr: float) -> Any:
        params, optimizer, update = begin(self, kind, lr)
        if kind == "in place, fused":

            def update() -> None:
                raise RuntimeError("`fused=True` requires all the params to be non-overlapping and dense")

        return params, optimizer, update

    monkeypatch.setattr(inplace.Trial, "begin", refusing)
    record = taken("kernels", tmp_path, preset="smoke", steps=2)
    assert record["status"] == "done", record["message"]
    rows = [row for row in record["result"]["update"] if row["kind"] == "in place, fused"]
    assert [row["right"] for row in rows] == [None, None] == [row["update_ms"] for row in rows]
    text = (tmp_path / "kernels" / "update.md").read_text()
    assert text.count("refused: RuntimeError: `fused=True` requires") == 2 or "refused: RuntimeError" in text
    assert "copy in float32" in text and json.dumps(record["result"])


def test_kernels_are_in_bf16_where_there_is_a_gpu() -> None:
    gpu = fits.Machine((80 * 10**9,), 10**11)
    assert asked("kernels", here=gpu).settings["dtype"] == "bf16" and "dtype" not in asked("kernels").settings
    assert asked("memory", here=gpu).settings["peaks"] == "by phase" and "peaks" not in asked("memory").settings

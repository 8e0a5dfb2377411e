"""A base of 4 bits in a question: its key, what is refused, and the experiment that compares it with whole weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_llama
from made_up import record

from smt_bench import experiments
from smt_bench.evidence.published import published
from smt_bench.experiments.accuracy import spiel_quantized
from smt_bench.machine.fits import Machine
from smt_bench.machine.spread import Spread
from smt_bench.methods import nf4
from smt_bench.models.inventory import inventory
from smt_bench.models.quantized import quantize
from smt_bench.plan.dry import Workload
from smt_bench.plan.gpu.hardware import find
from smt_bench.plan.row import Target
from smt_bench.plan.rows import DryPlanner, plan_rows
from smt_bench.questions.parts import plan_parts
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.index import describe
from smt_bench.records.runs import OtherVersion, Run
from smt_bench.records.store import Record, Store

HERE = Machine((), 24_000_000_000)


def planner(experiment: str = "plateau", model: str = "tiny", **asked: Any) -> DryPlanner:
    made = DryPlanner(Request(experiment, model, **asked), HERE)
    made.open_without_data()
    return made


def test_it_is_in_the_key_only_where_it_was_asked_for() -> None:
    plain, _ = planner().run("lora", 0.02, 0)
    small, _ = planner(base="nf4").run("lora", 0.02, 0)
    assert "base" not in plain.to_dict()["train"] and small.to_dict()["train"]["base"] == "nf4"
    assert small == replace(plain, train=replace(plain.train, base="nf4"))
    assert len({plain.key, small.key}) == len({plain.setting, small.setting}) == 2
    assert Run.from_dict(small.to_dict()) == small and Run.from_dict(plain.to_dict()) == plain
    assert describe([small, plain]) == {small.key: "lora over nf4 2 % seed 0", plain.key: "lora 2 % seed 0"}
    with pytest.raises(OtherVersion, match="base='int8'"):
        replace(plain.train, base="int8")


@pytest.mark.parametrize(
    ("name", "settings", "spread", "why"),
    [
        ("full", (), Spread(), "full: it trains the model's own weights"),
        ("lt-sft", (), Spread(), "lt-sft: it trains the model's own weights"),
        ("smt", (("smt", "warmup_trains", True),), Spread(), r"warmup_trains=True: .* choose false .*--set smt.warmup_trains"),
        ("peft:lora", (("peft:lora", "init_lora_weights", "pissa"),), Spread(), "choose true, gaussian or eva"),
        ("lora", (), Spread(2, zero=2), "leave --zero and --offload out"),
    ],
)  # fmt: skip
def test_what_cannot_stand_on_it_is_refused_in_one_line(name: str, settings: Any, spread: Spread, why: str) -> None:
    made = planner(base="nf4", methods=(name,), settings=settings)
    made.spread = spread
    with pytest.raises(ValueError, match=why) as error:
        experiments.find("plateau").check(made)
    assert "\n" not in str(error.value) and "--base nf4" in str(error.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4, "find_spec", lambda name: None)
    made = Planner(Request("plateau", "tiny", base="nf4"), HERE)
    with pytest.raises(ValueError, match=r"--base nf4: needs bitsandbytes: pip install 'smt-bench\[nf4\]'"):
        made.check_capacity("lora", 0.02)
    planner(base="nf4").check_capacity("lora", 0.02)  # a dry run needs none


def test_usual_methods_that_cannot_are_left_out_and_smt_only_looks_in_its_warmup() -> None:
    made = planner(base="nf4")
    runs = [run for run, _ in experiments.find("plateau").runs(made)]
    names = {run.method.name for run in runs}
    assert "full" not in names and {"base", "smt", "spiel", "lora", "dora"} <= names
    assert "full" in made.left_out and {run.train.base for run in runs} == {"nf4"}
    assert {run.method.config["warmup_trains"] for run in runs if run.method.name == "smt"} == {False}
    assert {
        run.method.config["warmup_trains"]
        for run, _ in experiments.find("plateau").runs(planner())
        if run.method.name == "smt"
    } == {True}


@pytest.mark.parametrize(("tied", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_bytes_of_the_weights_are_exact(tied: bool, dtype: torch.dtype) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: nothing can be quantized")
    model = tiny_llama(tie_word_embeddings=tied).to(dtype)
    found = inventory(model)
    quantize(model)
    parts = {part.data_ptr(): part for part in nf4.stored(model.parameters())}
    assert found.weight_bytes(dtype.itemsize, "nf4") == sum(p.numel() * p.element_size() for p in parts.values())
    assert found.weight_bytes(dtype.itemsize, "") == dtype.itemsize * found.total
    small = [name for name, p in model.named_parameters() if isinstance(p, nf4.Nf4)]
    assert len(small) == 14 and not any("embed" in name or "lm_head" in name or "norm" in name for name in small)


def test_the_gate_asks_for_the_bytes_of_4_bits() -> None:
    whole, small = (planner(model="llama-7b", precision="bf16", base=base).demand("lora") for base in (None, "nf4"))
    assert whole.states("bf16") > 13.4e9
    # 6.5 of the 6.7 billion numbers are in linear layers: 4.127 bits each; the rest, 0.26 billion, 2 bytes each.
    left = small.states("bf16") - small.trainable * small.per_number
    assert left == pytest.approx((6_738_415_616 - 262_410_240) * 4.127 / 8 + 2 * 262_410_240, rel=1e-4)


def test_every_row_of_table_2_stands_beside_its_whole_one() -> None:
    made, experiment = planner("spiel-quantized"), spiel_quantized.SpielQuantized()
    experiment.check(made)
    runs = [run for run, _ in experiment.runs(made)]
    assert len({run.key for run in runs}) == len(runs)
    whole, small = runs[::2], runs[1::2]
    assert [replace(run, train=replace(run.train, base="nf4")) for run in whole] == small
    assert [run.method.name for run in small[:5]] == list(spiel_quantized.METHODS)
    assert {run.method.config["warmup_trains"] for run in runs if run.method.name == "smt"} == {False}
    plateau = {run.key for run, _ in experiments.find("plateau").runs(planner())}
    assert {run.key for run in whole if run.method.name in ("base", "lora", "spiel")} <= plateau
    with pytest.raises(ValueError, match="compares it with whole weights"):
        experiment.method_names(planner("spiel-quantized", base="nf4"))
    with pytest.raises(ValueError, match="full: it trains the model's own weights"):
        experiment.check(planner("spiel-quantized", methods=("full",)))


def test_a_plan_of_both_counts_each_over_its_base() -> None:
    made = planner("spiel-quantized", methods=("lora",))
    target = Target(find("a100-80gb"), Spread(2, zero=2), fixed=True)
    whole, small = plan_rows(spiel_quantized.SpielQuantized(), made, Workload("tiny", 2, 16, "fp32", False), target)
    assert (whole.to_dict()["method"], small.to_dict()["method"]) == ("lora", "lora over nf4")
    bytes_of = [row.account.find("tuning", "forward").peak["parameters"] for row in (whole, small) if row.account]
    assert bytes_of[0] - bytes_of[1] == made.inventory.weight_bytes(4, "") - made.inventory.weight_bytes(4, "nf4")
    assert (whole.how, small.how) == ("whole copies", "whole copies")  # ZeRO is for what trains the whole model


@pytest.mark.parametrize("name", ["criteria", "saturation"])
def test_where_it_would_change_nothing_it_is_refused(name: str, tmp_path: Path) -> None:
    asked = Request(name, "tiny", base="nf4")
    with pytest.raises(ValueError, match="--base: .* puts no method over it: leave it out"):
        plan_parts(experiments.members(name), asked, HERE, Store(tmp_path), False, print)


def over(small: bool, method: str, right: float, seed: int, **more: Any) -> Record:
    answers = {task: [1] * round(100 * right) + [0] * round(100 - 100 * right) for task in ("boolq", "piqa")}
    made = record(method, None if method == "base" else 4.0, seed, answers, **more)
    if small:
        made["run"]["train"]["base"] = "nf4"
        made["key"] = made["key"][::-1]
    return made


def test_table_2_says_what_4_bits_cost(tmp_path: Path) -> None:
    made = [
        over(small, method, right[small], seed)
        for method, right in {"lora": (0.7, 0.4), "spiel": (0.7, 0.7), "smt": (0.6, 0.6)}.items()
        for small in (False, True)
        for seed in range(3)
    ]
    files = {f.name: f for f in spiel_quantized.SpielQuantized().render(made, tmp_path, "tiny")}
    text, claims = files["table2.md"].read_text(), files["table2_claims.csv"].read_text().splitlines()
    assert [line.split("|")[1].strip() for line in text.splitlines()[4:10]] == [
        "LoRA",
        "qLoRA",
        "SpIEL",
        "qSpIEL",
        "SMT",
        "qSMT",
    ]
    assert "A frozen base of 4 bits under qLoRA, qSpIEL, qSMT" in text
    lora, ahead = (next(c for c in claims if t in c) for t in ("LoRA: 4 bits cost little", "qSpIEL-AG beats qLoRA"))
    assert "does not hold" in lora and ",holds" in ahead
    # Printed: LoRA loses (47.7 + 54.3 - 49.3 - 55.3) / 2 points.
    assert spiel_quantized.printed("llama2-7b")["qLoRA"] - spiel_quantized.printed("llama2-7b")[
        "LoRA"
    ] == pytest.approx(-1.3)
    papers = published("spiel_table2_quantized")
    own = files["table2_printed.csv"].read_text().splitlines()
    assert own[0].endswith(",source,keys") and own[2] == "llama2-7b,qLoRA,47.7,-1.6,54.3,-1,13.3,-2.4,published,"
    assert len(own) == 1 + len(papers)


def test_no_printed_number_of_instructions_beside_another_family(tmp_path: Path) -> None:
    where = {"model": "llama2-7b", "protocol": "llm-adapters", "weights": "hub"}
    made = [over(small, "lora", 0.7, 0, **where) for small in (False, True)]
    files = {f.name: f for f in spiel_quantized.SpielQuantized().render(made, tmp_path, "llama2-7b")}
    assert "ours − published" not in files["table2.md"].read_text()

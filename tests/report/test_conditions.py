"""What tables say of layers and realised fractions."""

from __future__ import annotations

import pytest
from made_up import record

from smt_bench.evidence.cells import groups
from smt_bench.report.conditions import chosen, divided, left_out, parts, realised
from smt_bench.report.notes import made_with
from smt_bench.report.trained import in_halves, settings


def made(method: str, fraction: float | None, **layers: object) -> dict:
    found = record(method, fraction)
    found["layers"] = {"experts": 0, "lacking": [], "chosen": [], **layers}
    return found


def test_a_fraction_that_is_not_its_columns_is_named() -> None:
    records = [made("lora", 1.0), made("smt", 1.0)]
    records[0]["capacity"] |= {"trainable": 12_000, "fraction": 0.012}
    assert realised(groups(records)) == [
        "Realised fractions more than 5 % off their column, one unit being larger than that: LoRA 1 % is 1.2 %."
    ]
    assert realised(groups([records[1]])) == []


def test_layers_that_were_asked_for_are_named() -> None:
    both = [made("lora", 1.0, chosen=["*layers.0.*"]), made("smt", 1.0, chosen=["v_proj"]), made("full", None)]
    assert chosen(groups(both[:2])) == ["Layers that were asked for: LoRA *layers.0.*; SMT v_proj."]
    assert chosen(groups(both))[0].endswith("; the other methods have their usual ones.")
    assert chosen(groups([made("lora", 1.0), made("smt", 1.0)])) == []
    varied = [made("smt", 1.0, chosen=["v_proj"]), made("smt", 2.0, chosen=["k_proj"])]
    assert chosen(groups(varied)) == []  # rows of a table say so themselves


def test_experts_and_lacking_layers_are_named() -> None:
    told = left_out(groups([made("lora", 1.0, experts=560_000, lacking=["up_proj", "down_proj"])]))
    assert told[0].startswith("Experts: 56 % of the parameters are matrices of experts")
    assert told[1].endswith("LoRA without up_proj, down_proj.")


def test_how_each_method_trains_in_bf16_is_told_and_nothing_of_float32() -> None:
    records = [made("full", None), made("lora", 1.0), made("dora", 1.0)]
    assert in_halves(groups(records)) == []
    for found, half in zip(records, ("masters", "adapters", "adapters")):
        found["run"]["train"]["precision"] = "bf16"
        found["run"]["method"]["half"] = half
    (line,) = in_halves(groups(records))
    assert "under bf16 autocast" in line and "LoRA, DoRA: adapters" in line and "full: masters" in line
    del records[1]["run"]["method"]["half"]
    assert "LoRA: by an earlier version, without autocast" in in_halves(groups(records))[0]


def test_numbers_of_a_gpu_are_not_said_to_repeat() -> None:
    found = made("full", None)
    assert "repeatable" not in made_with([found])
    found["environment"] = {**(found.get("environment") or {}), "repeatable": "not bitwise repeatable"}
    assert made_with([found]).endswith("Not bitwise repeatable: on a GPU without --deterministic.")


def test_parts_of_only_what_was_looked_at_are_named() -> None:
    run = made("smt", 1.0)["run"]
    run["data"] |= {"heldout": 60, "tune": 30, "split_seed": 0}
    whole = divided(run)
    run["data"]["aside"] = 120
    told = [line for line in divided(run) if line not in whole]
    assert len(told) == 1 and "some that choose here are among those that runs which look at all 120 report" in told[0]
    run["data"]["divided"] = "aside"
    assert divided(run) == whole


def test_every_method_s_settings_stand_below_a_table_unless_there_are_many() -> None:
    records = [made("lora", 1.0), made("smt", 1.0), made("smt", 2.0), made("full", None)]
    for found, config in zip(
        records,
        (
            {"targets": ["q_proj", "v_proj"], "dropout": 0.0984},
            {"side": "auto", "steps": 5},
            {"side": "auto", "steps": 9},
        ),
    ):
        found["run"]["method"]["config"] = config
    assert settings(groups(records)) == [
        "Settings: LoRA targets q_proj v_proj, dropout 0.0984; SMT side auto, steps 5 or 9."
    ]
    assert settings(groups(records[3:])) == []
    many = [made(f"peft:{name}", 1.0) for name in "abcdefghi"]
    for found in many:
        found["run"]["method"]["config"] = {"targets": []}
    assert settings(groups(many)) == ["Settings: in each record (`python -m smt_bench show KEY`)."]


def test_what_is_known_of_a_tuning_stands_below_what_rests_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smt_bench.report.conditions.ERRATA", {"ab12": "It looked twice."})
    records = [made("lora", 1.0), made("smt", 1.0)]
    assert "It looked twice." not in parts(groups(records))
    records[1]["recipe"] = {"name": "tiny", "changed": {}, "tuning": "ab12"}
    assert parts(groups(records))[-1] == "It looked twice."

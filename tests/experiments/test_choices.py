"""The ablations of the SMT paper: their verdicts can fail, their tables say what they must."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up import EIGHT, record
from papers import read, smt

from smt_bench.cli.app import main
from smt_bench.evidence.verdicts import HOLDS, OPEN, REFUTED, tally
from smt_bench.experiments.choices import qkv, selection, spiel_schedule, warmup
from smt_bench.records.runs import Run
from smt_bench.records.store import Record


def qkv_records(k: float, v: float, both: float, seeds: int = 3, **where: Any) -> list[Record]:
    rows = {("k_proj",): k, ("q_proj",): k, ("v_proj",): v, ("q_proj", "k_proj", "v_proj"): both}
    return [smt(s, p + 0.004 * (s - 1), targets=list(t), **where) for t, p in rows.items() for s in range(seeds)]


@pytest.mark.parametrize(
    ("k", "v", "verdicts"),
    [(0.4, 0.7, [HOLDS, HOLDS, HOLDS]), (0.7, 0.4, [REFUTED, REFUTED, HOLDS]), (0.6, 0.602, [OPEN, OPEN, HOLDS])],
)
def test_claims_hold_fail_or_stay_open(k: float, v: float, verdicts: list[str], tmp_path: Path) -> None:
    files = qkv.Qkv().render(qkv_records(k, v, v), tmp_path, "tiny")
    assert [f.name for f in files] == ["table6.md", "table6.csv", "table6_claims.md", "table6_claims.csv"]
    claims = read(files[3])
    assert [c["verdict"] for c in claims[:2]] == verdicts[:2]
    assert float(claims[0]["printed_difference"]) == pytest.approx(78.5 - 73.9)
    text = files[0].read_text()
    assert f"Verdict on accuracy: {tally([c['verdict'] for c in claims])}" in text
    assert "published" not in text.splitlines()[2] and "only their signs" in text
    rows = read(files[1])
    assert [r["row"] for r in rows] == ["K", "Q", "V", "QKV"] and {r["n_seeds"] for r in rows} == {"3"}
    assert float(rows[0]["difference"]) == pytest.approx(100 * (k - v), abs=0.5) and rows[3]["difference"] == ""


def test_one_seed_decides_nothing_and_lost_runs_are_blank(tmp_path: Path) -> None:
    made = qkv_records(0.4, 0.7, 0.7, seeds=1)
    made[0] = {k: v for k, v in made[0].items() if k not in ("evaluation", "heldout")} | {
        "status": "diverged",
        "step": 3,
    }
    files = qkv.Qkv().render(made, tmp_path, "tiny")
    rows, claims = read(files[1]), read(files[3])
    assert rows[0]["accuracy"] == "" and rows[0]["n_seeds"] == "0" and "diverged" in files[0].read_text()
    assert {c["verdict"] for c in claims} == {f"{OPEN} (no number)", f"{OPEN} (one seed)"}


def test_published_values_stand_beside_ours_only_where_model_and_protocol_match(tmp_path: Path) -> None:
    where = {"model": "llama-7b", "protocol": "llm-adapters", "tasks": EIGHT, "fraction": 0.84}
    files = qkv.Qkv().render(qkv_records(0.70, 0.75, 0.75, **where), tmp_path / "a", "llama-7b")
    row = next(r for r in read(files[1]) if r["row"] == "V")
    assert row["published"] == "78.5" and float(row["minus_published"]) == pytest.approx(75 - 78.5, abs=0.3)
    assert "ours − published" in files[0].read_text()
    for change in ({"protocol": "likelihood"}, {"tasks": EIGHT[:7]}, {"fraction": 4.91}):
        files = qkv.Qkv().render(qkv_records(0.70, 0.75, 0.75, **(where | change)), tmp_path / "b", "llama-7b")
        assert {r["published"] for r in read(files[1])} == {""}


def test_selection_fills_two_tables(tmp_path: Path) -> None:
    made = [
        smt(s, p, fraction=f, metric=m)
        for s in range(3)
        for f in (0.84, 4.91)
        for m, p in (("mean_abs", 0.7), ("activation_channels", 0.5), ("activation", 0.75))
    ]
    made += [
        smt(s, p, fraction=0.84, scope=scope) for s in range(3) for scope, p in (("per_layer", 0.65), ("random", 0.6))
    ]
    files = {f.name: f for f in selection.Selection().render(made, tmp_path, "tiny")}
    claims = read(files["table8_claims.csv"])
    papers = [c for c in claims if c["behind"] == "activation"]
    assert [(c["ahead_pct"], c["verdict"]) for c in papers] == [("0.84", HOLDS), ("4.91", HOLDS)]
    assert float(papers[1]["printed_difference"]) == pytest.approx(81.4 - 52.8)
    assert (
        len(claims) == 4 and "Verdict on accuracy: all 2 claims hold" in files["table8.md"].read_text()
    )  # of the paper's two
    assert {r["fraction_pct"] for r in read(files["table9.csv"])} == {"0.84"}
    assert [c["verdict"] for c in read(files["table9_claims.csv"])] == [HOLDS] * 3


def test_whole_columns_of_blocks_alone_are_no_verdict_on_the_papers_claim(tmp_path: Path) -> None:
    made = [smt(s, p, fraction=0.84, metric=m) for s in range(3) for m, p in (("mean_abs", 0.7), ("activation", 0.5))]
    files = {f.name: f for f in selection.Selection().render(made, tmp_path, "tiny")}
    text = files["table8.md"].read_text()
    assert "activation, columns of blocks" in text and "No verdict: the rows of the paper's claims were not run" in text
    assert {c["control"] for c in read(files["table8_claims.csv"])} == {"1"}


def test_table_8s_budgets_stand_beside_our_smallest_and_largest(tmp_path: Path) -> None:
    def printed(fractions: Sequence[float], model: str) -> list[float | None]:
        made = [smt(0, 0.5, fraction=f, metric=m, model=model) for f in fractions for m in ("mean_abs", "activation")]
        return [selection.table8(made)("gradient", f) for f in fractions]

    assert printed((2.0, 4.0, 8.0), "tiny") == [78.7, None, 81.4]
    assert printed((2.0,), "tiny") == [None]  # neither small nor large
    assert printed((0.84, 2.0), "llama-7b") == [78.7, None] and printed((2.0, 8.0), "llama-7b") == [None, None]


def test_warmup_separates_training_from_choosing(tmp_path: Path) -> None:
    gains = {(True, "global"): 0.8, (False, "global"): 0.6, (True, "random"): 0.8, (False, "random"): 0.5}
    made = [
        smt(s, p + 0.003 * s, warmup_steps=n, warmup_trains=trains, scope=scope)
        for s in range(3) for n in (5, 20) for (trains, scope), p in gains.items()
    ]  # fmt: skip
    claims = read({f.name: f for f in warmup.Warmup().render(made, tmp_path, "tiny")}["table10_claims.csv"])
    by_text = {(c["claim"], c["ahead"]): c["verdict"] for c in claims}
    assert by_text["the number of warm-up steps hardly matters (appendix H)", "trains for 20"] == HOLDS
    assert by_text["dense training in the warm-up helps", "trains for 5"] == HOLDS
    assert by_text["chosen blocks beat random ones", "trains for 5"] != HOLDS
    assert by_text["chosen blocks beat random ones where nothing was trained before", "frozen for 5"] == HOLDS
    assert "Verdict on accuracy: the claim holds." in (tmp_path / "table10.md").read_text()  # controls have no vote


def test_an_ablation_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cli(*args: str) -> str:
        monkeypatch.setattr("sys.argv", ["smt_bench", *args, "--results", str(tmp_path)])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        return capsys.readouterr().out

    args = ("--model", "tiny", "--preset", "smoke", "--steps", "2", "--limit", "2")
    plan = json.loads(cli("run", "paper", *args, "--dry-run", "--json"))
    assert len({row["key"] for row in plan}) == len(plan) > 25 and {row["status"] for row in plan} == {"missing"}
    printed = cli("run", "block-size", *args)
    assert "Table 12: block sides, tiny" in printed and "cannot be told" in printed
    assert cli("table", "block-size").startswith(printed.split("- Claim by claim")[0])
    done = [row for row in json.loads(cli("run", "paper", *args, "--dry-run", "--json")) if row["status"] == "done"]
    assert {row["settings"]["block_size"] for row in done} == {32, 64}


def scheduled(seed: int, every: int, rates: str, share: float) -> Record:
    right = [int(i < round(400 * share)) for i in range(400)]
    made = record("spiel", 4.0, seed, {"boolq": right}, nll=1.0)
    made["run"]["method"]["config"] = {"update_every": every, "estimate_steps": 5} | (
        {"rates": rates} if rates != "linear" else {}
    )
    made["key"] = Run.from_dict(made["run"]).key
    return made


def test_spiels_table5_asks_for_the_schedule_and_for_how_often(tmp_path: Path) -> None:
    made = [
        scheduled(s, every, rates, (0.75 if every == 10 else 0.5) + 0.005 * s)
        for s in range(4) for rates in ("linear", "cosine") for every in (10, 20, 40, 80)
    ]  # fmt: skip
    files = spiel_schedule.SpielSchedule().render(made, tmp_path, "tiny")
    claims = read(files[3])
    assert len(claims) == 6
    frequent = [c for c in claims if "twice as often" in c["claim"]]
    assert {c["verdict"] for c in frequent} == {HOLDS}
    # Mean of MMLU and TyDiQA: 52.0 and 56.4 every 10 steps, 50.7 and 56.2 every 20, linear; 51.8, 56.3 and 51.6, 56.5, cosine.
    assert [float(c["printed_difference"]) for c in frequent] == pytest.approx([0.75, 0.0], abs=1e-9)
    assert [r["row"] for r in read(files[1])][:2] == ["linear, every 10", "linear, every 20"]

"""The experiments of the SMT paper: they expand from shapes, their verdicts can fail, their tables say what they must."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from made_up import EIGHT, record

from smt_bench import experiments
from smt_bench.cli.app import main
from smt_bench.data.datasets import DataSet
from smt_bench.data.prompts import Example
from smt_bench.evidence.cells import groups
from smt_bench.evidence.verdicts import HOLDS, OPEN, REFUTED, judge, overall, tally
from smt_bench.experiments.accuracy import best_of, commonsense
from smt_bench.experiments.choices import qkv, selection, warmup
from smt_bench.experiments.cost import break_even
from smt_bench.experiments.why import anatomy, criteria, gradients, saturation
from smt_bench.machine import fits
from smt_bench.models.locate import Located
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.parts import plan_parts, union
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import ModelRef, Run
from smt_bench.records.store import Record, Store

N = 400
BASE = {
    "targets": ["q_proj", "k_proj", "v_proj"], "block_size": 32, "metric": "mean_abs", "scope": "global", "warmup_steps": 5,
    "warmup_trains": True, "warmup_lr_scale": 0.3,
}  # fmt: skip


def smt(seed: int, share: float, tasks: Sequence[str] = ("boolq",), fraction: float = 2.0, **changes: Any) -> Record:
    """An SMT record that answers this share of the examples rightly; changes of its config, `model`, `protocol`, `nll`."""
    rng = np.random.default_rng((seed, round(1000 * share)))
    right = {t: (rng.permutation(N) < share * N).astype(int).tolist() for t in tasks}
    made = record("smt", fraction, seed, right, nll=changes.pop("nll", 2 - share), model=changes.pop("model", "tiny"))
    made["run"]["evaluation"]["protocol"] = changes.pop("protocol", "likelihood")
    made["run"]["method"]["config"] = {**BASE, **changes}
    made["key"] = Run.from_dict(made["run"]).key
    return made


def qkv_records(k: float, v: float, both: float, seeds: int = 3, **where: Any) -> list[Record]:
    rows = {("k_proj",): k, ("q_proj",): k, ("v_proj",): v, ("q_proj", "k_proj", "v_proj"): both}
    return [smt(s, p + 0.004 * (s - 1), targets=list(t), **where) for t, p in rows.items() for s in range(seeds)]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("intervals", "seeds", "equal", "verdict"),
    [
        ([(0.1, 9), (2, 3)], 3, False, HOLDS),
        ([(-0.1, 9), (2, 3)], 3, False, OPEN),
        ([(-9, 0.9), (-3, -2)], 3, False, REFUTED),
        ([(-9, 1.1), (-3, -2)], 3, False, OPEN),
        ([(0.1, 0.2)], 3, False, HOLDS),
        ([(2, 3)], 1, False, f"{OPEN} (one seed)"),
        ([(-0.9, 0.9)], 3, True, HOLDS),
        ([(-0.9, 1.1)], 3, True, OPEN),
        ([(1.1, 3), (1.2, 2)], 3, True, REFUTED),
        ([(-3, -1.1)], 3, True, REFUTED),
    ],
)
def test_the_rule_of_verdicts(intervals: list[tuple[float, float]], seeds: int, equal: bool, verdict: str) -> None:
    assert judge(intervals, seeds, 1.0, equal) == verdict


def test_a_table_is_refuted_by_one_claim_and_upheld_by_all() -> None:
    assert overall([HOLDS, REFUTED, OPEN]) == REFUTED and overall([HOLDS, HOLDS]) == HOLDS
    assert overall([HOLDS, f"{OPEN} (one seed)"]) == overall([]) == OPEN
    assert tally([HOLDS, REFUTED, OPEN]) == "does not hold (3 claims: 1 holds, 1 does not hold, 1 cannot be told)"


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
    assert f"Verdict on accuracy: {overall([c['verdict'] for c in claims])}" in text
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
        for m, p in (("mean_abs", 0.7), ("activation", 0.5))
    ]
    made += [
        smt(s, p, fraction=0.84, scope=scope) for s in range(3) for scope, p in (("per_layer", 0.65), ("random", 0.6))
    ]
    files = {f.name: f for f in selection.Selection().render(made, tmp_path, "tiny")}
    claims = read(files["table8_claims.csv"])
    assert [(c["ahead_pct"], c["verdict"]) for c in claims] == [("0.84", HOLDS), ("4.91", HOLDS)]
    assert float(claims[1]["printed_difference"]) == pytest.approx(81.4 - 52.8)
    assert {r["fraction_pct"] for r in read(files["table9.csv"])} == {"0.84"}
    assert [c["verdict"] for c in read(files["table9_claims.csv"])] == [HOLDS] * 3


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
    assert "holds (1 claim: 1 holds)" in (tmp_path / "table10.md").read_text()  # controls have no vote


def test_printed_rows_of_tables_2_and_5_say_at_which_fraction(tmp_path: Path) -> None:
    assert best_of.printed_row("LoRA (best)", "llama-7b", "commonsense") == (76.3, 0.83)
    assert best_of.printed_row("SpIEL (equal)", "llama-7b", "commonsense") == (77.4, 0.84)  # table 3; table 2: 76.5
    assert best_of.printed_row("SMT (equal)", "llama-13b", "commonsense") == (82.4, 0.68)
    assert best_of.printed_row("SMT (equal)", "llama-7b", "commonsense") == (78.7, 0.84)
    assert best_of.printed_row("SMT (best)", "llama-7b", "commonsense") == (81.4, 4.91)
    assert best_of.printed_row("DoRA (equal)", "llama-13b", "commonsense") is None  # no table 3
    assert best_of.printed_row("LoRA (equal)", "llama-7b", "math") == (60.9, 0.86)
    assert best_of.printed_row("full", "llama-7b", "math") is None
    right = {task: [1, 0] for task in EIGHT}
    made = [
        record(m, pct, 0, right, nll=2 - pct / 10, model="llama-7b", protocol="llm-adapters")
        for m in ("lora", "smt") for pct in (0.84, 4.91)
    ]  # fmt: skip
    files = commonsense.Commonsense().render(made, tmp_path, "llama-7b")
    rows = {r["row"]: r for r in read(files[1])}
    shown = {name: (r["fraction_pct"], r["published"], r["published_pct"]) for name, r in rows.items()}
    assert shown["LoRA (best)"] == ("4.91", "76.3", "0.83") and shown["LoRA (equal)"] == ("0.84", "76.3", "0.84")
    assert "76.3 (0.83 %)" in files[0].read_text() and "81.4 (4.91 %)" in files[0].read_text()


def test_best_is_chosen_by_heldout_loss_and_never_by_the_test_set() -> None:
    made = [record("lora", 1.0, s, {"boolq": [1, 1, 1, 1]}, nll=1.2) for s in range(2)]
    made += [record("lora", 2.0, s, {"boolq": [0, 1, 0, 0]}, nll=1.1) for s in range(2)]
    picked = best_of.best(groups(made))
    assert picked is not None and picked.fraction_pct == 2.0
    assert best_of.best(groups(record("lora", 1.0, 0, {"boolq": [1]}) for _ in range(1))) is None
    assert (
        best_of.equal_budget([0.0043, 0.0084, 0.05]) == 0.0084
        and best_of.equal_budget([0.01, 0.02, 0.04, 0.08]) == 0.04
    )


def test_table2_has_best_and_equal_rows(tmp_path: Path) -> None:
    from made_up import sweep

    files = experiments.find("commonsense").render(
        sweep("llama2-7b", (0.43, 0.84, 4.91), 2, n=60), tmp_path, "llama2-7b"
    )  # type: ignore[arg-type]
    rows = read(files[1])
    assert {"base", "full", "LoRA (best)", "SMT (best)", "SMT (equal)"} <= {r["row"] for r in rows}
    claims = {c["claim"]: c for c in read(files[3])}
    assert float(claims["SMT at its best beats LoRA at its best (table 2)"]["printed_difference"]) == pytest.approx(
        83.4 - 77.6
    )
    assert float(
        claims["SMT at the equal budget beats DoRA at its best (table 2)"]["printed_difference"]
    ) == pytest.approx(81.8 - 80.5)


MEMBERS = [member.name for member in experiments.members("paper")]
TRAINING = [name for name in MEMBERS if isinstance(experiments.find(name), TrainingExperiment)]


def planner(model: str, family: str = "commonsense", **changes: Any) -> Planner:
    """A planner that has seen no file: shapes only, and made-up data."""
    made = Planner(Request("paper", model, default_family=family, **changes), fits.here())
    example = Example("q", "", "a", "true")
    task = {"commonsense": "boolq", "math": "gsm8k"}[family]
    made.data = DataSet(family, "made up", [example] * 170_300, [example], {task: [example]})
    made.data.__dict__["train_sha256"] = "ab" * 8  # 170,300 times the same need no hash
    made.located = Located(ModelRef(model, "r", "hub"), Path())
    made.opened = True
    return made


@pytest.mark.parametrize("model", ["tiny", "smollm2-135m", "llama3-8b"])
def test_everything_expands_from_shapes_with_unique_keys(model: str) -> None:
    planners = {family: planner(model, family) for family in ("commonsense", "math")}
    seen: dict[str, set[str]] = {}
    for name in MEMBERS:
        module: Any = experiments.find(name)
        for family in module.families:
            own = planners[family]
            module.method_names(own)
            module.check(own)
            planned = module.runs(own)
            keys = [run.key for run, _ in planned]
            assert keys and len(keys) == len(set(keys)), name
            seen[f"{name} {family}"] = set(keys)
            if name == "qkv":
                assert len({capacity.trainable for _, capacity in planned}) == 1 and len(keys) == 4
                assert len(module.runs(planner(model, seeds=(0, 1)))) == 8
    grid = seen["plateau commonsense"]
    assert seen["commonsense commonsense"] == grid and seen["anatomy commonsense"] <= grid
    for name in ("qkv", "allocation", "block-metric", "selection", "block-size"):
        assert len(seen[f"{name} commonsense"] & grid) >= 1, f"{name} shares no run with the plateau"


def test_the_papers_numbers_on_the_papers_models() -> None:
    own = planner("llama-7b")
    fractions = {
        name: {run.method.fraction for run, _ in experiments.find(name).runs(own)}
        for name in TRAINING
        if name != "math10k"
    }
    assert fractions["qkv"] == fractions["block-size"] == {0.0084} and fractions["warmup"] == {0.035}
    assert fractions["selection"] == {0.0084, 0.0491}
    steps = {run.method.config["warmup_steps"] for run, _ in warmup.Warmup().runs(own)}
    sides = {run.method.config["block_size"] for run, _ in experiments.find("block-size").runs(own)}
    assert steps == {30, 70, 100, 130, 160} and sides == {4096, 256, 128, 64, 32}


def test_parts_share_planners_and_name_what_cannot_be_done(tmp_path: Path) -> None:
    said: list[str] = []
    modules = [experiments.find(name) for name in ("plateau", "commonsense", "qkv", "math10k")]
    request = Request("paper", "tiny", tasks=("facts-2",), preset="smoke")
    parts = plan_parts(modules, request, fits.here(), Store(tmp_path), False, said.append)
    assert [p.experiment.name for p in parts] == ["plateau", "commonsense", "qkv"] and parts[0].planner is parts[
        2
    ].planner
    assert len(said) == 1 and said[0].startswith("note: math10k (commonsense) left out: --tasks facts-2")
    assert len(union(parts)) == sum(len(p.planned) for p in parts) - len(parts[1].planned)
    with pytest.raises(ValueError, match="qkv is about smt alone"):
        plan_parts(
            modules[2:3],
            Request("qkv", "tiny", methods=("lora",)),
            fits.here(),
            Store(tmp_path),
            False,
            said.append,
        )
    with pytest.raises(ValueError, match="does not exist"):
        plan_parts(modules, Request("paper", "tiny", data="nowhere"), fits.here(), Store(tmp_path), False, said.append)


def probed(seed: int, v: float, layers: int = 6) -> Record:
    made = record("full", None, seed, {"boolq": [1, 0]}, nll=1.0)
    made["run"]["probes"] = ["median-gradient"]
    made["key"] = Run.from_dict(made["run"]).key
    made["probes"] = {
        "median-gradient": {
            f"model.layers.{i}.self_attn.{p}_proj": {"mean": 1e-5 * (1 + 0.1 * i + 0.01 * seed) * (v if p == "v" else 1.0)}
            for i in range(layers) for p in "qkv"
        }
    }  # fmt: skip
    return made


@pytest.mark.parametrize(("v", "verdict"), [(8.0, HOLDS), (0.5, REFUTED)])
def test_figure3_and_its_verdict(v: float, verdict: str, tmp_path: Path) -> None:
    files = gradients.Gradients().render([probed(s, v) for s in range(3)], tmp_path, "tiny")
    assert f"larger than Q's and K's: {verdict}" in files[0].read_text()
    assert float(read(files[1])[0]["v_over_q"]) == pytest.approx(v)
    assert matplotlib.image.imread(files[2]).shape[1] == 680
    assert "cannot be told" in gradients.Gradients().render([probed(0, v)], tmp_path / "one", "tiny")[0].read_text()


def placed(seed: int, v: int, fraction: float = 1.0) -> Record:
    made = smt(seed, 0.5, fraction=fraction)
    blocks = {f"model.layers.{i}.self_attn.v_proj": [[0, n] for n in range(v)] for i in range(6)}
    made["method"] = {"block_size": 32, "blocks": blocks | {"model.layers.0.self_attn.q_proj": [[0, 0], [1, 0]]}}
    return made


def test_anatomy_counts_blocks(tmp_path: Path) -> None:
    made = [placed(s, v, f) for s in range(3) for v, f in ((3, 1.0), (6, 2.0))]
    files = {f.name: f for f in anatomy.Anatomy().render(made, tmp_path, "tiny")}
    assert {"figure4.png", "figure5.png", "figure5.csv"} <= set(files)
    row = read(files["figure5.csv"])[0]
    assert float(row["share_v"]) == pytest.approx(100 * 18 / 20) and (
        row["empty_q"],
        row["empty_k"],
        row["empty_v"],
    ) == ("5", "6", "0")
    assert float(row["random_v"]) == pytest.approx(20)  # tiny: K and V have a third of Q's rows
    text = files["figure5.md"].read_text()
    assert "more than half of the budget, at SMT 1 %: holds" in text and "V 95.17 % of the blocks" in text
    few = anatomy.Anatomy().render([placed(s, 0) for s in range(3)], tmp_path / "few", "tiny")[0].read_text()
    assert (
        "more than half of the budget, at SMT 1 %: does not hold" in few
        and "every V matrix holds blocks, at SMT 1 %: does not hold" in few
    )


def measured(kind: str, settings: dict[str, Any], result: dict[str, Any], seed: int) -> Record:
    return {
        "key": f"{seed}",
        "status": "done",
        "run": {"kind": kind, "settings": settings, "seed": seed},
        "result": result,
    }


def trial(seed: int, slope: float) -> Record:
    rng = np.random.default_rng(seed)
    blocks = [
        {
            "layer": f"model.layers.0.self_attn.{'qkv'[i % 3]}_proj", "row": 0, "column": i, "stratum": i // 6,
            "benefit": 1e-3 * (slope * i + 4 * rng.standard_normal()), "mean_abs": 1.0 + i, "abs_mean": rng.random(),
            "activation": rng.random(), "weight": rng.random(), "random": rng.random(),
        }
        for i in range(48)
    ]  # fmt: skip
    settings = {"steps": 5, "batch_size": 8, "lr": 1e-3, "warmup_steps": 4}
    return measured("criteria", settings, {"blocks": blocks, "total_blocks": 200, "side": 32}, seed)


@pytest.mark.parametrize(("slope", "verdict"), [(1.0, HOLDS), (-1.0, REFUTED), (0.0, OPEN)])
def test_criteria_verdicts(slope: float, verdict: str, tmp_path: Path) -> None:
    files = criteria.Criteria().render([trial(s, slope) for s in range(3)], tmp_path, "tiny")
    assert f"the warm-up score predicts benefit: {verdict}." in files[0].read_text()
    assert {f.name for f in files} == {"criteria.md", "criteria.csv", "blocks.csv", "criteria.png", "criteria.svg"}
    assert len(read(tmp_path / "blocks.csv")) == 3 * 48


def test_a_few_large_benefits_do_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    save = criteria.save
    monkeypatch.setattr(criteria, "save", lambda figure, *rest: drawn.append(figure) or save(figure, *rest))
    made = trial(0, 1.0)
    for block in made["result"]["blocks"][:3]:
        block["benefit"] *= 1000
    criteria.Criteria().render([made], tmp_path, "tiny")
    axes = drawn[0].axes[0]
    benefits = [1000 * b["benefit"] for b in made["result"]["blocks"]]
    heights = axes.transAxes.inverted().transform(axes.transData.transform([(1, b) for b in benefits]))[:, 1]
    assert heights.min() > 0 and heights.max() < 1
    assert np.percentile(heights, 75) - np.percentile(heights, 25) > 0.05


def saturated(seed: int, own: float) -> Record:
    s = saturation.SETTINGS
    random = [
        {"d_k": d, "scale": c, "analytic": {"sum_p2": 0.5, "q": 1 / c, "k": 1.0, "v": 1.0}}
        | {"measured": {"sum_p2": 0.5, "q": (1 + 0.01 * seed) / c, "k": 1.0, "v": 1.0}}
        for d in s["widths"] for c in s["scales"]
    ]  # fmt: skip
    rows = [
        {"factor": f, "layer": i, "sum_p2": 0.3, "largest": 0.4}
        | {f"{kind}_{n}": (own + 0.01 * seed if f == 0.5 and n != "v" else 1.0) for kind in ("rms", "median") for n in "qkv"}
        for f in s["factors"] for i in range(3)
    ]  # fmt: skip
    return measured("saturation", s, {"random": random, "own": rows}, seed)


@pytest.mark.parametrize(("own", "verdict"), [(2.0, HOLDS), (0.5, REFUTED)])
def test_saturation_verdicts(own: float, verdict: str, tmp_path: Path) -> None:
    files = saturation.Saturation().render([saturated(s, own) for s in range(3)], tmp_path, "tiny")
    assert [f.name for f in files] == ["saturation.md", "saturation.csv", "own.md", "own.csv"]
    assert f"(√d_k twice as large) raises Q's gradient against V's: {verdict}" in files[0].read_text()


def timed(seed: int, full: float, model: str = "bench-60m") -> Record:
    def steps(ms: float) -> list[dict[str, float]]:
        return [{"forward": 0.25 * ms, "backward": 0.5 * ms, "hooks": 0.0, "optimizer": 0.25 * ms + 0.01 * seed}] * 3

    config = {"warmup_trains": True, "warmup_steps": 100}
    entry = {"variant": "", "version": 1, "trainable": 10, "total": 1000}
    entries = [
        {**entry, "name": "full", "label": "full", "fraction": None, "config": {}},
        {**entry, "name": "smt", "label": "smt 1 %", "fraction": 0.01, "config": config},
        {**entry, "name": "lora", "label": "lora 1 %", "fraction": 0.01, "config": {}},
    ]
    times = {"full": full, "smt 1 %": 10.0, "lora 1 %": 10.0, "smt warm-up": 30.0, "smt frozen warm-up": 15.0}
    flops = {name: {"forward": 1, "backward": 2} for name in times}
    result = {
        "entries": entries,
        "milliseconds": {n: steps(ms) for n, ms in times.items()},
        "flops": flops,
        "tokens": 100,
    }
    made = measured("speed", {"run_steps": 31954}, result | {"estimating": {}, "selection_ms": {"smt 1 %": 50.0}}, seed)
    made["run"] |= {"model": {"name": model}, "machine": "here"}
    return made


@pytest.mark.parametrize(("full", "verdict"), [(20.0, HOLDS), (9.0, REFUTED)])
def test_break_even(full: float, verdict: str, tmp_path: Path) -> None:
    assert break_even.steps_to_catch_up(100, 30, 50, 10, 20) == pytest.approx((100 * 20 + 50) / 10)
    assert break_even.steps_to_catch_up(100, 12, 0, 10, 50) == 100  # never before the warm-up is over
    files = break_even.BreakEven().render([timed(s, full) for s in range(3)], tmp_path, "bench-60m")
    rows = {(r["warmup"], r["against"]): r for r in read(files[1])}
    assert rows["frozen", "LoRA"]["steps"] == ""  # equally fast: never
    steps = rows["trains", "full"]["steps"]
    assert float(steps) == pytest.approx(205) if full > 10 else steps == ""
    line = next(line for line in files[0].read_text().splitlines() if "100, trains | full" in " ".join(line.split()))
    assert line.rstrip("| ").endswith(verdict)


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
    assert "Table 12: block sides, tiny" in printed and "cannot be told at this scale" in printed
    assert cli("table", "block-size").startswith(printed.split("- Claim by claim")[0])
    done = [row for row in json.loads(cli("run", "paper", *args, "--dry-run", "--json")) if row["status"] == "done"]
    assert {row["settings"]["block_size"] for row in done} == {32, 64}

"""Gradients, anatomy, criteria and saturation: their verdicts can fail, their figures show what they must."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from made_up import record
from papers import measured, read, smt

from smt_bench.evidence.verdicts import HOLDS, OPEN, REFUTED
from smt_bench.experiments.why import anatomy, criteria, gradients, saturation, spiel_ages
from smt_bench.records.runs import Run
from smt_bench.records.store import Record


def probed(seed: int, v: float, layers: int = 6) -> Record:
    made = record("full", None, seed, {"boolq": [1, 0]}, nll=1.0)
    made["run"]["probes"] = ["median-gradient"]
    made["key"] = Run.from_dict(made["run"]).key
    made["probes"] = {
        "median-gradient": {
            f"model.layers.{i}.self_attn.{p}_proj": {
                "mean": 1e-5 * (1 + 0.1 * i + 0.01 * seed) * (v * (1 + 0.01 * seed + 0.01 * i) if p == "v" else 1.0)
            }
            for i in range(layers) for p in "qkv"
        }
    }  # fmt: skip
    return made


@pytest.mark.parametrize(("v", "verdict"), [(8.0, HOLDS), (0.5, REFUTED)])
def test_figure3_and_its_verdict(v: float, verdict: str, tmp_path: Path) -> None:
    files = gradients.Gradients().render([probed(s, v) for s in range(3)], tmp_path, "tiny")
    assert ("all 2 claims hold" if verdict == HOLDS else "none of 2 claims holds; 2 do not hold") in files[
        0
    ].read_text()
    assert float(read(files[1])[0]["v_over_q"]) == pytest.approx(v * 1.01, rel=1e-3)
    assert matplotlib.image.imread(files[2]).shape[1] == 680
    assert "cannot be told" in gradients.Gradients().render([probed(0, v)], tmp_path / "one", "tiny")[0].read_text()


def placed(seed: int, v: int, fraction: float = 1.0) -> Record:
    made = smt(seed, 0.5, fraction=fraction)
    blocks = {f"model.layers.{i}.self_attn.v_proj": [[0, n] for n in range(v)] for i in range(6)}
    made["method"] = {"block_size": 32, "blocks": blocks | {"model.layers.0.self_attn.q_proj": [[0, 0], [1, 0]]}}
    return made


def test_anatomy_counts_blocks(tmp_path: Path) -> None:
    made = [placed(s, v + (s == 2), f) for s in range(3) for v, f in ((3, 1.0), (6, 2.0))]
    files = {f.name: f for f in anatomy.Anatomy().render(made, tmp_path, "tiny")}
    assert {"figure4.png", "figure5.png", "figure5.csv"} <= set(files)
    row = read(files["figure5.csv"])[0]
    assert float(row["share_v"]) == pytest.approx(100 * (2 * 18 / 20 + 24 / 26) / 3) and (
        row["empty_q"],
        row["empty_k"],
        row["empty_v"],
    ) == ("5", "6", "0")
    assert float(row["random_v"]) == pytest.approx(20)  # tiny: K and V have a third of Q's rows
    text = files["figure5.md"].read_text()
    assert "more than half of the budget, at SMT 1 %: holds" in text and "V 95.17 % of the blocks" in text
    few = [placed(s, 0) for s in range(3)]
    for s, made_few in enumerate(few):  # one block of V, the rest is Q's
        made_few["method"]["blocks"] |= {
            "model.layers.0.self_attn.v_proj": [[0, 0]], "model.layers.0.self_attn.q_proj": [[0, n] for n in range(9 + s)],
        }  # fmt: skip
    few = anatomy.Anatomy().render(few, tmp_path / "few", "tiny")[0].read_text()
    assert (
        "more than half of the budget, at SMT 1 %: does not hold" in few
        and "every V matrix holds blocks, at SMT 1 %: does not hold" in few
    )


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
    assert f"the warm-up score predicts benefit: {verdict}" in files[0].read_text()
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


def aged(name: str, seed: int, histogram: dict[str, int], fraction: float = 4.0) -> Record:
    made = record(name, fraction, seed, {"boolq": [1, 0]}, nll=1.0, steps=100)
    made["run"]["method"]["config"] = {"update_every": 20, "estimate_steps": 5}
    made["key"] = Run.from_dict(made["run"]).key
    made["method"] = {"updates": 4, "replaced": 150, "age_histogram": histogram}
    made["capacity"] = {"unit": "deltas", "units": 100, "trainable": 100, "total": 2500, "fraction": 0.04}
    return made


def test_figure2_of_spiel_says_who_settles_early(tmp_path: Path) -> None:
    def late(seed: int) -> dict[str, int]:
        return {"5": 40 + seed, "40": 20, "80": 40 - seed}

    def early(seed: int) -> dict[str, int]:
        return {"5": 80, "40": 15 - seed, "80": 5 + seed}

    made = [aged("spiel", s, late(s)) for s in range(3)] + [aged("spiel-ma", s, early(s)) for s in range(3)]
    files = spiel_ages.SpielAges().render(made, tmp_path / "a", "tiny")
    rows = read(files[1])
    assert [r["method"] for r in rows] == ["spiel", "spiel-ma"]
    assert float(rows[0]["mean_time_pct"]) == pytest.approx(
        np.mean([0.05 * (40 + s) + 8 + 0.8 * (40 - s) for s in range(3)])
    )
    assert float(rows[0]["late_pct"]) == pytest.approx(39) and float(rows[1]["late_pct"]) == pytest.approx(6)
    assert rows[0]["moved_per_delta"] == "1.5"
    assert "% of the run, holds." in files[0].read_text()
    assert (
        "larger models keep more of their early indices (section 5.3): cannot be told (one model)"
        in files[0].read_text()
    )
    assert matplotlib.image.imread(files[2]).shape[1] == 680
    turned = [aged("spiel", s, early(s)) for s in range(3)] + [aged("spiel-ma", s, late(s)) for s in range(3)]
    assert "does not hold." in spiel_ages.SpielAges().render(turned, tmp_path / "b", "tiny")[0].read_text()
    one = spiel_ages.SpielAges().render([made[0], made[3]], tmp_path / "c", "tiny")[0].read_text()
    assert "cannot be told (one seed)" in one
    assert (
        "needs runs of both methods" in spiel_ages.SpielAges().render(made[:3], tmp_path / "d", "tiny")[0].read_text()
    )

"""The experiments that measure cost: they run, their rows add up, and what they claim follows from their records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from folders import model_folder
from helpers import Cli

from smt_bench import experiments
from smt_bench.experiments.cost.kernels import deltas, pieces
from smt_bench.experiments.cost.kernels.inplace import Trial
from smt_bench.experiments.cost.memory.experiment import Memory
from smt_bench.experiments.cost.memory.process import weigh
from smt_bench.experiments.cost.speed.decomposition import decomposition
from smt_bench.experiments.cost.speed.rows import pick, speed_rows
from smt_bench.experiments.cost.speed.tables import table1
from smt_bench.experiments.cost.steps import PAPER_STEPS
from smt_bench.machine import fits
from smt_bench.machine.watch import unwatched
from smt_bench.measuring.flops import count_flops
from smt_bench.models import build, locate
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.outcome import measure
from smt_bench.records.store import Store

METHODS = ("full", "smt")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three experiments, measured and rendered as `run` does it."""
    store = Store(tmp_path_factory.mktemp("cost"))
    for name in ("speed", "memory", "kernels"):
        module = experiments.find(name)
        asked = Request(name, "tiny", preset="smoke", steps=2, methods=() if name == "kernels" else METHODS)
        planner = Planner(asked, fits.here())
        module.check(planner)
        records = []
        for question, _ in module.runs(planner):
            inputs = planner.measured()
            record = measure(question, lambda q, watch, m=module, i=inputs: m.measure(q, watch, i), unwatched)
            assert record["status"] == "done", record["message"]
            store.write(record)
            records.append(record)
        assert len(records) == (2 if name == "kernels" else 1)
        module.render(records, store.root / name / "tiny", "tiny")
    return store.root


def test_speed_has_every_phase_and_the_ratios_that_follow(place: Path) -> None:
    table = pd.read_csv(place / "speed" / "tiny" / "speed.csv")
    wanted = {"method", "fraction", "phase", "step_ms", "tokens_per_s", "ratio_to_full", "flop_limit_ratio", "repeats"}
    assert wanted <= set(table.columns)
    full = table[table["method"] == "full"].set_index("phase")
    for _, row in table.iterrows():
        like = row["phase"] if row["phase"] in full.index else "step"
        if pd.notna(row["ratio_to_full"]):
            assert row["ratio_to_full"] == pytest.approx(full["step_ms"][like] / row["step_ms"], rel=1e-6)
    phases = {"forward", "backward", "hooks", "optimizer", "forward_backward", "step", "step_amortised"}
    for method in METHODS:
        assert phases <= set(table[table["method"] == method]["phase"])
    assert {"warmup_step", "frozen_warmup_step", "selection"} <= set(table[table["method"] == "smt"]["phase"])
    smt = table[(table["method"] == "smt") & (table["phase"] == "forward_backward")]["flop_limit_ratio"].item()
    assert 1.2 < smt < 2  # no weight gradients; logits and attention are no part of that


def test_amortised_is_a_weighted_mean(place: Path) -> None:
    (record,) = [r for r in Store(place).records() if r["run"].get("kind") == "speed"]
    rows = speed_rows([record])
    get = {
        phase: pick(rows, "smt", phase)["step_ms"] for phase in ("step", "warmup_step", "selection", "step_amortised")
    }
    s = record["run"]["settings"]
    config = next(e["config"] for e in s["methods"] if e["name"] == "smt")
    warm, whole = config["warmup_steps"], s["run_steps"]
    expected = (warm * get["warmup_step"] + get["selection"] + (whole - warm) * get["step"]) / whole
    assert get["step_amortised"] == pytest.approx(expected)


def test_printed_times_stand_beside_whole_bases_only(place: Path) -> None:
    (record,) = [r for r in Store(place).records() if r["run"].get("kind") == "speed"]
    run = record["run"]
    small = record | {"run": run | {"settings": run["settings"] | {"base": "nf4"}}}
    whole, over_4_bits = (
        [row.get("paper_speedup") for row in table1(speed_rows([r]), [r], "tiny", []).data or []]
        for r in (record, small)
    )
    assert any(whole) and len(over_4_bits) == len(whole) and not any(over_4_bits)


def test_memory_counts_what_the_layers_keep(place: Path) -> None:
    kept = pd.read_csv(place / "memory" / "tiny" / "activations.csv")
    assert (kept["kept_bytes"] == kept["formula_bytes"]).all() and (kept["kept_bytes"] > 0).all()
    assert (kept["kept_bytes"] <= kept["views_bytes"]).all() and (kept["kept_bytes"] <= kept["unshared_bytes"]).all()
    table = pd.read_csv(place / "memory" / "tiny" / "memory.csv")
    assert set(table["checkpointing"]) == {0, 1} and set(table["method"]) == set(METHODS)
    total = 2_042_304 * 4
    full = table[(table["method"] == "full") & (table["checkpointing"] == 0)].iloc[0]
    assert full["optimizer_state"] >= 2 * total and full["parameters"] >= total
    frozen = table[(table["variant"] == "frozen") & (table["stage"] == "warmup")]
    assert (frozen["gradients"] + frozen["optimizer_state"] < 0.01 * total).all()


def test_kernels_reproduce_figure_11_and_catch_wrong_updates(place: Path) -> None:
    folder = place / "kernels" / "tiny"
    formats = pd.read_csv(folder / "storage.csv").set_index("format")
    assert formats["mib"].round(2)[["full matrix", "dense block", "COO"]].tolist() == [64.0, 3.2, 16.0]
    update = pd.read_csv(folder / "update.csv").set_index(["weights", "kind"])
    assert update["right"]["float32", "copy in float32"] == 1
    assert update["kept_pct"]["bfloat16", "copy in float32"] == pytest.approx(100, abs=0.1)
    assert update["kept_pct"]["bfloat16", "in place, loop"] < 50
    scores = pd.read_csv(folder / "scores.csv")
    assert (scores["pooled_error"] < 1e-4).all()


def test_both_ways_to_the_gradients_of_deltas_are_right_and_stand_side_by_side(place: Path) -> None:
    table = pd.read_csv(place / "kernels" / "tiny" / "deltas.csv")
    assert sorted(set(table["density"])) == [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08]
    assert {(64, 192), (192, 192), (384, 192), (192, 384)} == set(zip(table["outputs"], table["inputs"]))
    assert set(table["tokens"]) == {16, 128}
    assert (table[["gathered_error", "alone_error"]] < 1e-5).all(axis=None)
    alone = (table["density"] <= 0.05) & (table["outputs"] >= 128)
    assert (table["rule"] == alone.map({True: "by_row", False: "gathered"})).all()
    pd.testing.assert_series_equal(table["times_faster"], table["gathered_ms"] / table["alone_ms"], check_names=False)


def test_where_both_ways_meet_is_read_between_two_measured_densities() -> None:
    case = {"outputs": 8, "inputs": 4, "tokens": 2}
    rows = [{**case, "density": d, "times_faster": t} for d, t in ((0.01, 4.0), (0.04, 0.25))]
    assert deltas._meeting(rows, (8, 4, 2)) == "2 %"  # halfway on logarithms
    assert (
        deltas._meeting(rows[:1], (8, 4, 2)) == "1 % and more" and deltas._meeting(rows[1:], (8, 4, 2)) == "below 4 %"
    )


def test_records_of_before_there_were_deltas_keep_their_tables(place: Path, tmp_path: Path) -> None:
    records = [
        r for r in Store(place).records() if r["run"]["kind"] == "kernels" and "part" not in r["run"]["settings"]
    ]
    names = {path.name for path in experiments.find("kernels").render(records, tmp_path, "tiny")}
    assert "gradient.md" in names and "deltas.md" not in names


def test_an_update_that_moves_other_numbers_is_called_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(torch.nn.Linear(8, 8, bias=False), [(0, 1)], 4, torch.ones(1, 4, 4))
    assert trial.right("copy in float32")
    begin = trial.begin

    def broken(kind: str, lr: float):
        params, optimizer, update = begin(kind, lr)
        return params, optimizer, lambda: (update(), trial.linear.weight.data.add_(1e-3))

    monkeypatch.setattr(trial, "begin", broken)
    assert not trial.right("copy in float32")


def test_all_ways_give_the_same_gradients() -> None:
    dy, x = torch.randn(6, 12, dtype=torch.float64), torch.randn(6, 8, dtype=torch.float64)
    pairs = [(0, 0), (2, 0), (1, 1)]
    expected = pieces.WAYS["per_block"](dy, x, pairs, 4)
    torch.testing.assert_close(pieces.per_column(dy, x, pairs, 4), expected)


def test_flops_of_attention_on_the_cpu_are_counted() -> None:
    q = torch.randn(1, 2, 8, 4, requires_grad=True)
    with count_flops() as so_far:
        out = torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
        forward = so_far()
        out.sum().backward()
    assert forward == 2 * 2 * (2 * 8 * 8 * 4)
    assert so_far() > 2 * forward


def test_the_printed_ratio_follows_from_the_rates_it_needs() -> None:
    data = decomposition(None, None).data
    assert data is not None
    first, last = data[0], data[-1]
    assert first["ratio"] == pytest.approx(1.49, abs=0.01)
    assert last["ratio"] == pytest.approx(14.6, abs=0.05)
    assert last["compute_s"] + last["links_s"] + last["host_s"] == pytest.approx(last["full_s"])
    assert 0 < last["share_of_nominal_rates"] < 1


def test_bench_models_are_near_their_names_and_have_no_weights() -> None:
    for name, size in (("bench-60m", 60e6), ("bench-110m", 110e6)):
        total = sum(torch.Size(s).numel() for s in build.shapes(name).values())
        assert abs(total / size - 1) < 0.02
        with pytest.raises(
            ValueError, match="has no weights, it is there to measure cost: choose e.g. tiny or smollm2-135m"
        ):
            locate.locate(name)


def test_measurements_are_keyed_by_machine_and_settings() -> None:
    here = fits.Machine((), 24 * 10**9)
    speed = experiments.find("speed")
    keys = {
        speed.runs(Planner(Request("speed", "tiny", steps=steps, seeds=seeds), here))[0][0].key
        for steps in (2, 3)
        for seeds in ((0,), (1,))
    }
    assert len(keys) == 4


def test_kernels_measure_a_frozen_matrix_of_four_bits_alone(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: nothing can be quantized")
    module, store = experiments.find("kernels"), Store(tmp_path)
    planners = [
        Planner(Request("kernels", "tiny", preset="smoke", steps=2, base=b), fits.here()) for b in (None, "nf4")
    ]
    plain, ((question, _),) = (module.runs(planner) for planner in planners)
    assert question.key not in {asked.key for asked, _ in plain} and len(plain) == 2
    record = measure(question, lambda q, watch: module.measure(q, watch, planners[1].measured()), unwatched)
    assert record["status"] == "done", record["message"]
    store.write(record)
    files = module.render([record], tmp_path / "out", "tiny")
    assert [file.name for file in files] == ["nf4.md", "nf4.csv"]
    table = pd.read_csv(files[1])
    shapes = {(192, 192), (64, 192), (384, 192), (192, 384)}
    assert set(zip(table["outputs"], table["inputs"])) == shapes and len(table) == 2 * len(shapes)
    assert (table[["product_error", "gradient_error"]] < 1e-5).all(axis=None)  # the right matrix, in both products
    assert table["rounded"].between(0.05, 0.2).all() and (table["bytes"] / table["nf4_bytes"]).between(7, 8).all()
    assert list(table["times_slower"]) == pytest.approx(list(table["both_nf4_ms"] / table["both_ms"]))
    assert (table["dequantize_ms"] > 0).all()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("speed", "--tasks", "boolq"), "--tasks: speed measures on random inputs"),
        (("plateau", "--model", "bench-60m"), "has no weights"),
        (("kernels", "--data", "nowhere"), "--data: kernels measures on random inputs"),
        (("frozen-warmup", "--methods", "lora"), "frozen-warmup is about smt alone"),
        (("speed", "--fractions", "90"), "choose"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, args: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = cli("run", *args)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_memory_builds_methods_for_the_steps_of_their_configs(tmp_path: Path) -> None:
    """On models with a recipe by shares, the config holds a sixth of 31,954 steps as SMT's warm-up."""
    model = str(model_folder(tmp_path / "own", num_hidden_layers=1))
    planner = Planner(Request("memory", model, preset="smoke", methods=("smt",)), fits.here())
    asked = Memory().settings(planner)
    assert asked["methods"][0]["config"]["warmup_steps"] > 1000
    found = weigh(model, {**asked, "length": 16}, asked["methods"][0], False, 0, PAPER_STEPS)
    assert found["trainable"] > 0

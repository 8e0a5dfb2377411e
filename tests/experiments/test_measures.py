"""What the paper's experiments measure: probes, exact attention moments, blocks tuned alone, rank correlations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import tiny_llama

from smt_bench.execute import execute
from smt_bench.experiments.why.block_trial import Bench, stratified
from smt_bench.experiments.why.softmax import analytic, measured
from smt_bench.machine import fits
from smt_bench.questions.planner import Planner
from smt_bench.questions.request import Request
from smt_bench.records.runs import Run
from smt_bench.training.probes import WINDOWS, MedianGradient, build


@pytest.fixture(scope="module")
def planner() -> Planner:
    made = Planner(Request("gradients", "tiny", preset="smoke"), fits.here())
    made.open()
    return made


def test_median_gradient_by_hand() -> None:
    model = tiny_llama()
    probe = MedianGradient(model, steps=20)
    for step in (1, 2, 20):
        for name, p in model.named_parameters():
            frozen = step == 2 and "layers.1" in name
            p.grad = None if frozen else torch.linspace(-1, 3, p.numel()).reshape(p.shape) * step
        probe.observe(step)
    result = probe.result()
    assert len(result) == 6 and all(len(v["windows"]) == WINDOWS for v in result.values())
    one = torch.linspace(-1, 3, 64 * 64).abs().median().item()
    early, late = result["model.layers.0.self_attn.q_proj"], result["model.layers.1.self_attn.q_proj"]
    assert early["mean"] == pytest.approx(one * 23 / 3) and late["mean"] == pytest.approx(one * 21 / 2)
    assert early["windows"][0] == pytest.approx(1.5 * one) and early["windows"][1] is None
    with pytest.raises(ValueError, match="did you mean 'median-gradient'"):
        build(["median-gradients"], model, 1)


def test_probes_are_part_of_the_key_only_where_there_are_some_and_change_no_number(planner: Planner) -> None:
    plain, _ = planner.run("full", None, 0)
    probed, _ = planner.run("full", None, 0, probes=("median-gradient",))
    assert "probes" not in plain.to_dict() and plain.key != probed.key
    assert Run.from_dict(probed.to_dict()) == probed and Run.from_dict(plain.to_dict()) == plain
    records = [execute(replace(run, train=replace(run.train, steps=3)), planner.inputs()) for run in (plain, probed)]
    assert records[0]["training"] == records[1]["training"] and "probes" not in records[0]
    found = records[1]["probes"]["median-gradient"]
    assert len(found) == 18 and all(v["mean"] > 0 for v in found.values())


@pytest.mark.parametrize(("d_k", "scale"), [(8, 0.5), (8, 8.0), (64, 2.0)])
def test_exact_attention_moments_agree_with_autograd(d_k: int, scale: float) -> None:
    exact, found = analytic(32, d_k, scale), measured(32, d_k, scale, 300, 0)
    for name, value in exact.items():
        assert found[name] == pytest.approx(value, rel=0.04), name


def test_limits_of_saturation() -> None:
    calm, wild = analytic(32, 64, 0.01), analytic(32, 64, 50.0)
    assert calm["sum_p2"] == pytest.approx(1 / 32, rel=1e-3)
    assert calm["q"] / calm["v"] == pytest.approx((0.01 * 31 / 32) ** 0.5, rel=0.02)
    assert wild["sum_p2"] > 0.9


def test_blocks_are_drawn_from_all_parts_of_the_ranking() -> None:
    scores = {"a": torch.arange(12.0).reshape(3, 4), "b": 12 + torch.arange(12.0).reshape(4, 3)}
    drawn = stratified(scores, 8, 4, seed=0)
    assert [part for _, part in drawn] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert all(6 * part <= scores[layer][row, col] < 6 * part + 6 for (layer, row, col), part in drawn)


def test_tuning_a_block_moves_the_loss_and_puts_the_weights_back(planner: Planner) -> None:
    run, _ = planner.run("smt", 0.04, 0)
    d = run.data
    settings = {
        "targets": run.method.config["targets"], "block_size": 32, "batch_size": 8,
        "data": {"template": d.template, "train_on_inputs": d.train_on_inputs, "cutoff": d.cutoff},
    }  # fmt: skip
    bench = Bench.open(settings, 0, planner.inputs())
    scores = bench.scores(1, 0)
    assert set(scores) == {"mean_abs", "abs_mean", "activation", "weight", "random"}
    assert all(grid[0].shape == scores["random"][layer][0].shape for layer, grid in scores["mean_abs"].items())
    layer = next(iter(scores["mean_abs"]))
    before, weights = bench.heldout(), bench.weight(layer).detach().clone()
    after = bench.tune((layer, 1, 2), [next(bench.batches)], 1e-2)
    assert after != before and torch.equal(bench.weight(layer), weights) and bench.heldout() == before
    assert not any(p.requires_grad or p.grad is not None for p in bench.model.parameters())

from __future__ import annotations

import matplotlib.image
import pytest
from made_up import record, sweep
from matplotlib.figure import Figure

from smt_bench import methods
from smt_bench.evidence import published as papers
from smt_bench.evidence.cells import summarise
from smt_bench.report.accuracy.curves import accuracy_by_fraction, heldout_by_fraction
from smt_bench.report.canvas import fraction_axis, look

TASKS = ("boolq", "piqa")


def test_files_are_real_and_repeatable(tmp_path):
    summary = summarise(sweep("llama-7b", (0.43, 0.84, 4.91), 2, tasks=TASKS, n=40))
    curves = papers.plateau("llama-7b")
    a, b = (
        accuracy_by_fraction(summary, tmp_path / place, "llama-7b, commonsense", curves)
        + heldout_by_fraction(summary, tmp_path / place, "llama-7b, commonsense")
        for place in "ab"
    )
    assert [f.name for f in a] == ["figure9.png", "figure9.svg", "figure9_heldout.png", "figure9_heldout.svg"]
    assert [f.read_bytes() for f in a] == [f.read_bytes() for f in b]
    for png in (a[0], a[2]):
        pixels = matplotlib.image.imread(png)
        assert pixels.shape[1] == 680 and 0.02 < (pixels[..., :3] < 0.9).any(axis=-1).mean() < 0.5
    svg = a[1].read_text(encoding="utf-8")
    assert "<dc:date>" not in svg and "<!-- llama-7b, commonsense. 2 seeds" in svg and "#D55E00".lower() in svg.lower()


@pytest.mark.parametrize(
    ("fractions", "name"),
    [
        ([1, 2, 4], "trainable parameters (% of the model)"),
        ([1, 2, 4, 8], "trainable parameters (% of the model), log scale"),
        ([0.43, 0.84, 1.26, 2.5, 3.73, 4.91], "trainable parameters (% of the model), log scale"),
        ([0.01, 4, 4.1, 8], "trainable parameters (% of the model), evenly spaced"),
        ([2], "trainable parameters (% of the model)"),
    ],
)
def test_ticks_stand_at_the_fractions(fractions, name):
    axes = Figure().add_subplot()
    spots = fraction_axis(axes, fractions)
    assert axes.get_xlabel() == name and list(axes.get_xticks()) == list(spots.values())
    assert [float(label.get_text()) for label in axes.get_xticklabels()] == fractions


def test_methods_look_different_also_unknown_ones():
    methods = ["full", "smt", "spiel", "lora", "dora", "base", "ia3", "shira"]
    looks = [look(m, methods) for m in methods]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == len(methods)


def test_a_gap_stays_a_gap(tmp_path):
    records = [record("smt", pct, 0, {"boolq": [1, 0]}, nll=1.0) for pct in (1.0, 4.0)]
    records.append(record("smt", 2.0, 0, {"boolq": [1]}, status="diverged"))
    files = accuracy_by_fraction(summarise(records), tmp_path, "tiny, commonsense")
    assert all(f.stat().st_size > 5000 for f in files)


def test_every_method_of_this_package_has_a_colour_of_its_own():
    own = [name for name in methods.REGISTRY.own if ":" not in name]
    colours = [methods.find(name).look[0] for name in own if methods.find(name).look]
    assert len(set(colours)) == len(colours) > 10

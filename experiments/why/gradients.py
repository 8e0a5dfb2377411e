"""Figure 3: the median absolute gradient of Q, K and V weights, layer by layer, over the run.

Claim (SMT, section 5.2): V's gradients are "significantly larger than those of the Q and K vectors ... up to 10 times greater in
most layers".

Where the paper is ambiguous: it does not say which method trained; gradients of whole matrices exist under full fine-tuning, so
that is what trains here. The median is over the entries of a matrix in one step, averaged over all steps (the paper: 1,000). The
gradients are those of the mean loss per label token, before clipping. With grouped-query attention one K or V weight serves
several heads of Q and sums their gradients, which favours K and V alike.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from smt_bench.evidence.cells import groups
from smt_bench.evidence.interval import Estimate, contrast
from smt_bench.evidence.sides import Items, Side
from smt_bench.evidence.verdicts import judge, tally
from smt_bench.experiments.why.projections import LOOKS, blank, handles, place
from smt_bench.methods.modules import targeted
from smt_bench.questions.experiment import OneMethodExperiment
from smt_bench.questions.grid import Cell
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record
from smt_bench.report import notes, trained
from smt_bench.report.canvas import STYLE, lay_out, save
from smt_bench.report.table import Cell as Entry
from smt_bench.report.table import Table
from smt_bench.training.probes import MedianGradient

PROBE = "median-gradient"
MATTERS = math.log(1.1)  # a ratio of gradients below 1.1 is no difference that matters


def _estimate(table: dict[tuple[int, str], list[float]], other: str) -> tuple[Estimate, list[float]]:
    """Mean log ratio of V to another projection, over seeds and layers crossed, and its mean over seeds by layer."""
    layers = sorted({layer for layer, _ in table})
    logs_LS = np.log(np.array([table[i, "V"] for i in layers]) / np.array([table[i, other] for i in layers]))
    value_S = logs_LS.mean(axis=0)
    side = Side(value_S, (logs_LS.T - value_S[:, None]) / len(layers), Items.of([range(len(layers))]))
    return contrast([(1.0, side)]), list(logs_LS.mean(axis=1))


def _claims(table: dict[tuple[int, str], list[float]]) -> list[tuple[str, str]]:
    """The verdicts on "V's gradients are larger" than Q's and K's, and their evidence in words."""
    found = {other: _estimate(table, other) for other in "QK"}
    verdicts = judge([estimate for estimate, _ in found.values()], MATTERS, lambda v: f"a ratio of {math.exp(v):.2f}")
    made = []
    for (other, (estimate, by_layer)), verdict in zip(found.items(), verdicts):
        interval = estimate.interval()
        shown = "" if interval is None else f" [{math.exp(interval[0]):.2f}, {math.exp(interval[1]):.2f}]"
        ahead = sum(value > 0 for value in by_layer)
        made.append(
            (
                verdict,
                f"V against {other}: geometric mean ratio {math.exp(estimate.value):.2f}{shown}, largest "
                f"{math.exp(max(by_layer)):.1f}, V ahead in {ahead} of {len(by_layer)} layers: {verdict}",
            )
        )
    return made


def _draw(table: dict[tuple[int, str], list[float]], layers: Sequence[int], folder: Path, steps: int) -> list[Path]:
    seeds = len(next(iter(table.values())))
    with matplotlib.rc_context(STYLE):
        spread = "; bars: smallest and largest seed" if seeds > 1 else ""
        caption = textwrap.wrap(f"Full fine-tuning, mean over {steps} steps, {notes.seeds([seeds])}{spread}.", 78)
        figure = blank(caption)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        for name in "QKV":
            values = np.array([table[layer, name] for layer in layers])
            mean = values.mean(axis=1)
            bars = np.array([mean - values.min(axis=1), values.max(axis=1) - mean])
            colour, marker = LOOKS[name]
            axes.errorbar(
                layers,
                mean,
                yerr=bars,
                color=colour,
                marker=marker,
                markersize=3.2,
                linewidth=1.0,
                elinewidth=0.7,
                capsize=1.4,
            )
        axes.set_yscale("log")
        axes.set_xlabel("layer")
        axes.set_ylabel("median |gradient| (nats per token, log scale)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", linewidth=0.3, color="#DDDDDD")
        axes.tick_params(width=0.6, length=2.5)
        lay_out(figure, axes, handles("QKV"), caption, [])
        return [save(figure, folder, f"figure3.{kind}", kind) for kind in ("png", "svg")]


class Gradients(OneMethodExperiment):
    """Full fine-tuning with a probe on the gradients."""

    name = "gradients"
    reproduces = "SMT figure 3: median absolute gradient of Q, K and V per layer over the run"
    method = "full"
    needs = "any model with q_proj, k_proj, v_proj; room for full fine-tuning"

    def cells(self, planner: Planner) -> list[Cell]:
        """One, whatever the fractions."""
        return [Cell("full", probes=(PROBE,))]

    def check(self, planner: Planner) -> None:
        """The model must have the three projections."""
        targeted(planner.shapes, MedianGradient.watches)

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """Figure 3 and its numbers."""
        found = groups(records)
        done = [r for g in found for r in g.done if PROBE in r.get("probes", {})]
        table: dict[tuple[int, str], list[float]] = {}
        for record in done:
            for matrix, values in record["probes"][PROBE].items():
                spot = place(matrix)
                if spot and values["mean"]:
                    table.setdefault(spot, []).append(values["mean"])
        layers = sorted({layer for layer, _ in table})
        rows: list[list[Entry]] = []
        data: list[dict[str, Entry]] = []
        for layer in layers:
            q, k, v = (float(np.mean(table[layer, name])) for name in "QKV")
            rows.append([layer, *(f"{value:.2e}" for value in (q, k, v)), f"{v / q:.2f}", f"{v / k:.2f}"])
            data.append(
                {"layer": layer, "q": q, "k": k, "v": v, "v_over_q": v / q, "v_over_k": v / k, "n_seeds": len(done)}
            )
        claims = _claims(table) if layers else []
        lines = [
            f"Verdict on V's gradients being larger than Q's and K's: {tally([verdict for verdict, _ in claims])}."
            if claims
            else "No finished run.",
            *(f"{text}." for _, text in claims),
            "[low, high]: 95 % over new seeds and new layers. Rule: does not hold where the 90 % interval lies within a ratio of "
            "1.1 either way, or where V is behind; else holds where the 95 % interval lies above 1; else, and with one seed, it "
            "cannot be told. Both claims corrected together (Holm). Printed: up to 10.",
            f"Median over the entries of a matrix, mean over {found[0].run['train']['steps']} steps of full fine-tuning and "
            f"{notes.seeds([len(done)]) if done else 'no run'}.",
            *trained.setting(found),
            *notes.losses(found),
            notes.provenance(found),
        ]
        header = ["layer", "Q", "K", "V", "V / Q", "V / K"]
        columns = ["layer", "q", "k", "v", "v_over_q", "v_over_k", "n_seeds"]
        heading = f"Figure 3: median absolute gradient of the weights, {model}"
        files = Table(heading, header, rows, lines, data, columns).of(done).write(folder, "figure3")
        return files + (_draw(table, layers, folder, found[0].run["train"]["steps"]) if layers else [])

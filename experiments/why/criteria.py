"""The open question behind SMT: does a block's warm-up score predict what tuning that block is worth?

The paper ranks blocks by gradients and shows that the ranking beats others when hundreds of blocks train together; it never looks
at one block. Here blocks, drawn evenly over the ranking, are tuned one at a time from the same weights on the same batches; the
benefit is the fall of the held-out loss. Its rank correlation with the score is set against those of the mean of absolute
gradients, activation, weight magnitude and chance.

Decisions: the warm-up is frozen (gradients of the weights as they are, so that score and benefit speak of the same point); AdamW
at SMT's learning rate, which evens out the size of gradients as it does in SMT; a few steps, since what a single block
gains levels off soon.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator, SymmetricalLogLocator

from smt_bench.evidence.interval import Estimate, mean_of
from smt_bench.evidence.stats import fisher_z, mean_correlation, over_items_z, rank_correlation
from smt_bench.evidence.verdicts import judge, tally
from smt_bench.experiments.why.block_trial import Bench, stratified
from smt_bench.experiments.why.projections import LOOKS, blank, handles, place
from smt_bench.machine.watch import Watcher
from smt_bench.questions import refusals
from smt_bench.questions.experiment import MeasuringExperiment
from smt_bench.questions.inputs import Inputs
from smt_bench.questions.planner import Planner
from smt_bench.records.runs import Measurement
from smt_bench.records.store import Record, finished
from smt_bench.report.canvas import STYLE, lay_out, save
from smt_bench.report.notes import made_with
from smt_bench.report.numbers import written
from smt_bench.report.table import Table

TITLES = {
    "mean_abs": "gradient, mean-abs (SMT)", "abs_mean": "gradient, abs-mean", "activation": "activation",
    "weight": "weight magnitude", "random": "random",
}  # fmt: skip
MATTERS = 0.1  # of Fisher's z: about that of a small rank correlation
STRATA = 8


def _column(blocks: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([b[name] for b in blocks])


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of a criterion with the benefit.

    Attributes:
        rho: mean over seeds by Fisher's z.
        interval: 95 % over seeds, each of which drew its own blocks; with one seed over its blocks.
        z: the mean of Fisher's z.
        ahead: how far SMT's score is ahead of it, a mean over seeds of differences of z.
    """

    rho: float
    interval: tuple[float, float] | None
    z: Estimate
    ahead: Estimate


def correlations(results: Sequence[dict[str, Any]]) -> dict[str, Correlation]:
    """By criterion."""
    found = {
        n: [rank_correlation(_column(r["blocks"], n), _column(r["blocks"], "benefit")) for r in results] for n in TITLES
    }
    made = {}
    for name, values in found.items():
        rho, interval, z = mean_correlation(values)
        error = over_items_z(len(results[0]["blocks"]))
        if len(values) == 1 and error is not None:
            interval = math.tanh(z.value - 1.96 * error), math.tanh(z.value + 1.96 * error)
        ahead = [fisher_z(mine) - fisher_z(theirs) for mine, theirs in zip(found["mean_abs"], values)]
        made[name] = Correlation(rho, interval, z, mean_of(ahead))
    return made


def _shown(found: Correlation) -> str:
    return written(found.rho, 2, between=found.interval, signed=True) or ""


def _round_down(value: float) -> float:
    """A power of ten, so that ticks stand at powers of ten; 1 where there is nothing to round."""
    return 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0


def _draw(blocks: Sequence[dict[str, Any]], found: dict[str, Correlation], folder: Path, seeds: int) -> list[Path]:
    with matplotlib.rc_context(STYLE):
        about = f"{len(blocks)} blocks, {seeds} seed{'s' if seeds > 1 else ''}; rank correlation {_shown(found['mean_abs'])}."
        about += " The y axis is linear between its two ticks next to 0."
        caption = textwrap.wrap(about, 78)
        figure = blank(caption)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        for name in "QKV":
            own = [b for b in blocks if (spot := place(b["layer"])) is not None and spot[1] == name]
            colour, marker = LOOKS[name]
            axes.scatter(
                _column(own, "mean_abs"),
                1000 * _column(own, "benefit"),
                s=9,
                color=colour,
                marker=marker,
                alpha=0.75,
                linewidth=0,
            )
        axes.axhline(0, color="#888888", linewidth=0.6)
        axes.set_xscale("log")
        # A few blocks gain a hundred times what the others do, and some lose: logarithms both ways from a linear middle.
        benefits = 1000 * _column(blocks, "benefit")
        middle = _round_down(float(np.median(np.abs(benefits))))
        axes.set_yscale("symlog", linthresh=middle, linscale=0.8)
        axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=middle))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(min(2 * float(benefits.min()), -middle), max(2 * float(benefits.max()), middle))
        axes.grid(axis="y", linewidth=0.3, color="#DDDDDD")
        axes.set_axisbelow(True)
        axes.set_xlabel("warm-up score of the block: |mean gradient| (log scale)")
        axes.set_ylabel(
            "fall of the held-out loss from tuning it alone\n(millinats per token, log scale both ways from 0)"
        )
        axes.tick_params(width=0.6, length=2.5)
        legend = handles("QKV")
        for entry in legend:
            entry.set(linewidth=0)
        lay_out(figure, axes, legend, caption, [])
        return [save(figure, folder, f"criteria.{kind}", kind) for kind in ("png", "svg")]


class Criteria(MeasuringExperiment):
    """Blocks tuned alone, from trained weights."""

    name = "criteria"
    reproduces = (
        "no table of the papers: rank correlation of a block's warm-up score with what tuning it alone is worth"
    )
    needs = "any model that fits on one device; its training data"
    version = 1
    needs_inputs = True

    def method_names(self, planner: Planner) -> list[str]:
        """SMT, whose warm-up needs the gradients of all targeted matrices."""
        return ["smt"]

    def check(self, planner: Planner) -> None:
        """Refuses options that could change nothing, and blocks that do not fit."""
        refusals.training_options(planner.request, planner.shared)
        planner.check_capacity("smt", min(planner.fractions()))

    def settings(self, planner: Planner) -> dict[str, Any]:
        """Another seed: other blocks, other batches."""
        config, steps = planner.config("smt", planner.steps), planner.steps
        return {
            "targets": config["targets"],
            "block_size": config["block_size"],
            "warmup_steps": config["warmup_steps"],
            "batch_size": planner.recipe.micro_batch_size,
            "lr": planner.recipe.lr("smt"),
            "steps": max(4, min(10, steps // 20)),
            "blocks": STRATA * (1 if planner.request.smoke else 6),
        }

    def measure(self, measurement: Measurement, watch: Watcher, inputs: Inputs) -> dict[str, Any]:
        """Scores all blocks, then tunes a sample of them one by one."""
        s, seed = measurement.settings, measurement.seed
        bench = Bench.open(s, seed, inputs)
        scores = bench.scores(s["warmup_steps"], seed)
        before = bench.heldout()
        batches = [next(bench.batches) for _ in range(s["steps"])]
        sample = stratified(scores["mean_abs"], s["blocks"], STRATA, seed)
        rows = []
        for number, (block, stratum) in enumerate(sample, start=1):
            layer, row, col = block
            after = bench.tune(block, batches, s["lr"])
            watch("blocks", number, len(sample), f"held-out {after:.4f}")
            rows.append(
                {"layer": layer, "row": row, "column": col, "stratum": stratum, "benefit": before - after}
                | {name: float(by_layer[layer][row, col]) for name, by_layer in scores.items()}
            )
        total = sum(r * c for r, c in bench.sizes.values())
        return {"heldout_before": before, "blocks": rows, "total_blocks": total, "side": bench.side}

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """The correlations with their verdicts, every block in a CSV file, and a picture of both."""
        done = finished(records, model)
        results, s = [r["result"] for r in done], done[0]["run"]["settings"]
        found = correlations(results)
        rivals = ("weight", "activation", "random")
        verdicts = judge([found["mean_abs"].z, *(found[name].ahead for name in rivals)], MATTERS, "{:.2f} in z".format)
        texts = ["the warm-up score predicts benefit", *(f"it predicts better than {TITLES[name]}" for name in rivals)]
        claims = list(zip(texts, verdicts))
        rows, data = [], []
        for name, title in TITLES.items():
            c = found[name]
            ahead = None if name == "mean_abs" else c.ahead
            between = None if ahead is None else ahead.interval()
            shown = None if ahead is None else written(ahead.value, 2, between=between, signed=True)
            rows.append([title, _shown(c), shown, len(done)])
            line = {"rho": c.rho, **dict(zip(("low", "high"), c.interval or (None, None)))}
            data.append(
                {"criterion": name, **line, "ahead_z": None if ahead is None else ahead.value, "n_seeds": len(done)}
            )
        blocks = [b for r in results for b in r["blocks"]]
        strata = [np.mean([b["benefit"] for b in blocks if b["stratum"] == i]) for i in range(STRATA)]
        lines = [
            f"Verdict: {tally([verdict for _, verdict in claims])}.",
            *(f"{statement}: {verdict}." for statement, verdict in claims),
            "[low, high]: 95 % over seeds, each with its own blocks (Student t of Fisher's z)"
            + (", here of one seed over its blocks." if len(done) == 1 else "."),
            f"Rule: does not hold where the 90 % interval lies within ± {MATTERS:g} of Fisher's z, or it is behind; "
            "else holds where the 95 % one lies above 0; else, and with one seed, it cannot be told. All statements "
            "corrected together (Holm).",
            f"Per seed {len(results[0]['blocks'])} of {results[0]['total_blocks']} blocks of side {results[0]['side']}, drawn "
            f"evenly over {STRATA} parts of the ranking, each tuned alone for {s['steps']} steps of {s['batch_size']} examples "
            f"at rate {s['lr']:g}; scores from {s['warmup_steps']} frozen warm-up steps.",
            "Mean fall of the held-out loss by part of the ranking, lowest scores first (millinats per token): "
            + ", ".join(f"{1000 * v:+.2f}" for v in strata) + ".",
            made_with(done),
        ]  # fmt: skip
        header = ["criterion", "rank correlation with benefit", "SMT's score minus it, in Fisher's z", "seeds"]
        files = (
            Table(f"Does the warm-up score predict benefit? {model}", header, rows, lines, data)
            .of(done)
            .write(folder, "criteria")
        )
        names = list(blocks[0])
        plain = [
            {"seed": r["run"]["seed"], **{n: b[n] for n in names}, "keys": r["key"]}
            for r in done
            for b in r["result"]["blocks"]
        ]
        table = Table(f"Blocks tuned alone, {model}", ["seed", *names, "keys"], [list(p.values()) for p in plain])
        return [*files, *table.write(folder, "blocks")[1:], *_draw(blocks, found, folder, len(done))]

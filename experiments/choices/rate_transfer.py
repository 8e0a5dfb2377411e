"""Does a learning rate that was tuned under one condition hold under another: another fraction, block side or number of steps?

No table of the papers, which print no search of rates but SpIEL's. A comparison over fractions at one rate, or a recipe taken
from a shorter run, holds only where the best rate moves little: a plateau can be made by a rate that is too high for the larger
fractions.

Every method is tried at the same multiples of the recipe's rate under several conditions: the middle fraction with the recipe's
steps, where rates are usually tuned, and one change at a time: the smallest fraction, the largest, half and a quarter of the
steps, and for SMT another block side. Under each condition the rate with the lowest loss on the part of the held-out examples
that choices are made by is the best; what a rate from elsewhere costs is measured on the other part. Rates are chosen by the mean
of the other seeds where there are several, so that no seed chooses its own rate.

Declared: for every method and condition, that the usual rate holds there, i.e. that it costs nothing (within the margin of NLL);
over new seeds, on these held-out examples. Where all seeds choose the same rate under both it holds without further ado.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from smt_bench.evidence.decisions import decide, holm, is_interim, margins
from smt_bench.evidence.interval import mean_of
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.verdicts import HOLDS, Claim, short_rule, tally, verdict
from smt_bench.evidence.words import family_title, percent, rank, title
from smt_bench.methods.smt.selection import grid as block_grid
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid
from smt_bench.questions.planner import Planner
from smt_bench.records import heldout
from smt_bench.records.store import Record
from smt_bench.report.canvas import STYLE, WIDTH, save
from smt_bench.report.conditions import weights
from smt_bench.report.notes import made_with
from smt_bench.report.numbers import written
from smt_bench.report.table import Table

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
SHARES = (0.5, 0.25)  # of the steps
HIDDEN = ("note", "usual", "costs", "same")  # of a line, not for the CSV
METHODS = ("full", "smt", "spiel", "lora", "dora")
Condition = tuple[float | None, int, int | None]  # fraction, steps, block side
Losses = dict[float, dict[int, tuple[float, float]]]  # by rate and seed: on the part to choose by, and on the other


def condition(record: Record) -> Condition:
    """Under which condition a run was made."""
    run = record["run"]
    side = (record.get("method") or {}).get("block_size") if run["method"]["name"] == "smt" else None
    return run["method"]["fraction"], run["train"]["steps"], side or run["method"]["config"].get("block_size")


class RateTransfer(TrainingExperiment):
    """Methods x conditions x rates."""

    name = "rate-transfer"
    reproduces = (
        "no table of the papers: whether a tuned learning rate holds at another fraction, block side or number of steps"
    )
    needs = "any model; commonsense (default) or math tasks"

    def method_names(self, planner: Planner) -> list[str]:
        """The five methods, or those asked for."""
        return planner.method_names(METHODS)

    def cells(self, planner: Planner) -> list[Cell]:
        """The usual condition and one change at a time, each at all rates.

        Raises:
            ValueError: no method trains.
        """
        fractions = sorted(planner.fractions())
        usual = fractions[len(fractions) // 2]
        names, cells = planner.trained(self.method_names(planner)), list[Cell]()
        for name in names:
            own = grid(planner, [name], [usual])
            for base in own:
                cells.append(base)
                if base.fraction is not None:
                    cells += [
                        replace(base, fraction=f) for f in dict.fromkeys((fractions[0], fractions[-1])) if f != usual
                    ]
                steps = planner.request.steps or planner.recipe.steps
                if steps is None and planner.opened:
                    steps = planner.steps
                if steps is not None:
                    shorter = [max(1, round(share * steps)) for share in SHARES]
                    cells += [replace(base, recipe={"steps": n}) for n in dict.fromkeys(shorter) if n < steps]
                if name == "smt":
                    cells += [replace(base, changes={"block_size": side}) for side in _other_sides(planner)]
        return [
            replace(cell, lr=float(f"{planner.recipe.lr(cell.method) * factor:.2g}"))
            for cell in cells
            for factor in FACTORS
        ]

    def declares(self, planned: Sequence[Record]) -> list[Claim]:
        """For every method and condition but the usual one: its rate holds there."""
        claims = []
        for name in sorted({r["run"]["method"]["name"] for r in planned}, key=rank):
            usual, *others = dict.fromkeys(condition(r) for r in planned if r["run"]["method"]["name"] == name)
            own = f"{title(name)}, {_words(usual, usual)}"
            for words in (_words(here, usual) for here in others):
                text = f"{title(name)}: the rate of {_words(usual, usual)} holds at {words}"
                claims.append(Claim(text, f"{title(name)}, {words}", own, equal=True))
        return claims

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """What a rate from the usual condition costs under each other one, and the curves behind it."""
        names = sorted({r["run"]["method"]["name"] for r in records}, key=rank)
        found = {name: _losses([r for r in records if r["run"]["method"]["name"] == name]) for name in names}
        data = [line for name in names for line in _lines(name, found[name], _keys(records, name))]
        _judge([line for line in data if not line["usual"]])
        rows = [
            [
                title(line["method"]), line["condition"], f"{line['usual_lr']:g}", f"{line['best_lr']:g}",
                written(line["loss"], 4), written(line["cost"], 4, line["cost_ci95"], signed=True),
                line["verdict"], line["n_seeds"], line["note"],
            ]
            for line in data
        ]  # fmt: skip
        sample = records[0]["run"]
        parts = sample["data"]
        table = Table(
            f"What a rate from elsewhere costs: {model}, {family_title(parts['family'])}",
            [
                "method",
                "condition",
                "rate of the usual condition",
                "best rate here",
                "held-out NLL at it",
                "cost, nats",
                "the usual rate",
                "seeds",
                "",
            ],
            rows,
            [
                *(
                    [f"Verdict: {tally(told)}. {short_rule()}"]
                    if (told := [d["verdict"] for d in data if d["verdict"]])
                    else []
                ),
                "Cost: held-out NLL (nats per response token) at the rate that is best under the usual condition, which stands "
                "first, minus that at the best rate here. ±: 95 % Student-t interval over seeds.",
                f"Rates are chosen by {parts.get('tune', 0)} held-out examples, losses are those of the other "
                f"{parts['heldout'] - parts.get('tune', 0)}; with several seeds by the mean of the other seeds.",
                f"Rates tried: {', '.join(f'{factor:g}' for factor in FACTORS)} times the recipe's. At the edge: the best may "
                "lie beyond.",
                weights(sample["train"]),
                made_with(records),
            ],
            [{k: v for k, v in d.items() if k not in HIDDEN} | {"at_edge": int(bool(d["note"]))} for d in data],
        )
        return [*table.write(folder, "rate_transfer"), *_draw(found, folder)]


def _other_sides(planner: Planner) -> list[int]:
    """Half and twice the block side of the recipe, where the model's matrices can be cut so."""
    usual = planner.config("smt", 1000)
    side, _ = block_grid(planner.shapes, usual["targets"], usual["block_size"])
    largest, _ = block_grid(planner.shapes, usual["targets"], "auto")
    return [other for other in (side // 2, 2 * side) if other and largest % other == 0]


def _losses(records: Sequence[Record]) -> dict[Condition, Losses]:
    """By condition, the usual one first: losses by rate and seed, infinite where a run gave none."""
    found: dict[Condition, Losses] = {}
    for record in records:
        pair = heldout.nll(record, "tune"), heldout.nll(record, "report")
        rate, seed = record["run"]["train"]["lr"], record["run"]["seed"]
        choose, report = (math.inf if value is None else value for value in pair)
        found.setdefault(condition(record), {}).setdefault(rate, {})[seed] = (choose, report)
    return found


def _best(losses: Losses, without: int | None) -> float | None:
    """The rate of the lowest mean loss to choose by, over all seeds but one; None where no rate has a number."""
    means = {}
    for rate, seeds in losses.items():
        own = [choose for seed, (choose, _) in seeds.items() if seed != without]
        if own and math.isfinite(mean := sum(own) / len(own)):
            means[rate] = mean
    return min(means, key=lambda rate: means[rate]) if means else None


def _lines(name: str, found: dict[Condition, Losses], keys: Mapping[Condition, Sequence[str]]) -> list[dict[str, Any]]:
    usual, *others = found
    lines = []
    for here in (usual, *others):
        rate, best = _best(found[usual], None), _best(found[here], None)
        if rate is None or best is None:
            continue
        seeds = sorted({seed for values in found[here].values() for seed in values})
        costs, losses, same = [], [], True
        for seed in seeds:
            left = seed if len(seeds) > 1 else None
            theirs, ours = _best(found[usual], left), _best(found[here], left)
            if theirs is None or ours is None:
                continue
            pair = [found[here].get(lr, {}).get(seed, (math.inf, math.inf))[1] for lr in (theirs, ours)]
            if all(map(math.isfinite, pair)):
                costs.append(pair[0] - pair[1])
                same = same and theirs == ours
                losses.append(pair[1])
        cost, ci = mean_ci(costs) if costs else (None, None)
        edge = best in (min(found[here]), max(found[here]))
        lines.append(
            {
                "method": name, "condition": _words(here, usual), "usual_lr": rate, "best_lr": best,
                "loss": sum(losses) / len(losses) if losses else None, "cost": cost, "cost_ci95": ci, "n_seeds": len(costs),
                "note": "at the edge" if edge else "", "usual": here == usual, "costs": costs, "same": same, "verdict": "",
                "keys": " ".join(keys[here]),
            }
        )  # fmt: skip
    return lines


def _keys(records: Sequence[Record], name: str) -> dict[Condition, list[str]]:
    """A method's runs by condition; the usual one's, whose rate they are all judged by, with each."""
    own: dict[Condition, list[str]] = {}
    for record in (r for r in records if r["run"]["method"]["name"] == name):
        own.setdefault(condition(record), []).append(record["key"])
    usual = next(iter(own.values()), [])
    return {here: [*keys, *(key for key in usual if key not in keys)] for here, keys in own.items()}


def _judge(lines: Sequence[dict[str, Any]]) -> None:
    """Says of every line whether the usual rate holds there; all of them corrected together."""
    sure = [line["same"] and line["n_seeds"] > 1 and not is_interim() for line in lines]
    rest = [line for line, known in zip(lines, sure) if not known]
    estimates = [mean_of(line["costs"]) if line["costs"] else None for line in rest]
    made = decide(estimates, margins().nats, holm, beyond=[True] * len(rest))
    for line, decision in zip(rest, made):
        line["verdict"] = verdict(decision, equal=True)
    for line, known in zip(lines, sure):
        line["verdict"] = HOLDS if known else line["verdict"]


def _words(here: Condition, usual: Condition) -> str:
    """A condition by what is not as usual."""
    fraction, steps, side = here
    told = [] if fraction is None else [percent(100 * fraction)]
    told.append(f"{steps} steps")
    told += [f"blocks of {side}"] if side != usual[2] else []
    return ", ".join(told)


def _draw(found: dict[str, dict[Condition, Losses]], folder: Path) -> list[Path]:
    """Loss on the reported part against the rate, a panel per method and a curve per condition."""
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(found))
        height = -(-len(found) // columns)
        figure = Figure(figsize=(2 * WIDTH, 2.2 * height), layout="constrained")
        grid_of = figure.subplots(height, columns, squeeze=False)
        for axes in grid_of.flat[len(found) :]:
            axes.set_visible(False)
        for axes, (name, conditions) in zip(grid_of.flat, found.items()):
            usual = next(iter(conditions))
            for here, losses in conditions.items():
                points = []
                for rate in sorted(losses):
                    own = [report for _, report in losses[rate].values() if math.isfinite(report)]
                    points.append((rate, sum(own) / len(own) if own else math.nan))
                axes.plot(
                    *zip(*points),
                    marker="o",
                    markersize=2.4,
                    linewidth=1.4 if here == usual else 0.8,
                    label=_words(here, usual),
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_title(title(name), fontsize=7)
            axes.set_xlabel("learning rate")
            axes.legend(frameon=False, fontsize=5.5)
        grid_of[0][0].set_ylabel("held-out NLL (nats per token)")
        return [save(figure, folder, f"rate_transfer.{kind}", kind) for kind in ("png", "svg")]

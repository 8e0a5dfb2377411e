"""Loss on the response, or on the prompt too: does this alone change which method is ahead?

No table of the papers. SMT's released code masks the prompt in the loss, LLM-Adapters and DoRA train on prompt and response; the
same table is then made with different losses, and users report that this alone changes the ranking. Here every method is trained
both ways, all else equal: same rates, same steps, same seeds.

Held-out NLL is of responses alone in both cases, so that it can be compared. Rates are the recipe's, found with the recipe's
loss: `tune masking` and `--tuned` give each method a rate of its own, yet also under the recipe's loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from smt_bench.evidence.cells import Cells, Group, in_order, summarise
from smt_bench.evidence.claims import Sheet, meetings
from smt_bench.evidence.verdicts import Claim
from smt_bench.evidence.words import rank, title
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record
from smt_bench.report.accuracy.variants import rows_of, write_groups
from smt_bench.report.canvas import STYLE, WIDTH, look, save

WAYS = {False: "response only", True: "prompt too"}
METHODS = ("full", "smt", "spiel", "lora", "dora")


def label(record: Record) -> str:
    """The row of a record, e.g. "LoRA, prompt too"."""
    run = record["run"]
    return f"{title(run['method']['name'])}, {WAYS[run['data']['train_on_inputs']]}"


def neutral(record: Record) -> Record:
    """The record as its row has it: the loss is in the label, and no table refuses to compare the two."""
    run, name = record["run"], label(record)
    data = {**run["data"], "train_on_inputs": "loss as the rows say"}
    return record | {"run": {**run, "data": data, "method": {**run["method"], "name": name}}}


class Masking(TrainingExperiment):
    """Methods x both losses, at one fraction unless more are asked for."""

    name = "masking"
    reproduces = "no table of the papers: loss on the response against loss on the prompt too, per method"
    needs = "any model; commonsense (default) or math tasks"

    def method_names(self, planner: Planner) -> list[str]:
        """The five methods, or those asked for."""
        return planner.method_names(METHODS)

    def cells(self, planner: Planner) -> list[Cell]:
        """Both losses of every method.

        Raises:
            ValueError: no method trains.
        """
        return [
            replace(cell, recipe={"train_on_inputs": way})
            for cell in grid(planner, planner.trained(self.method_names(planner)), middle(planner))
            for way in WAYS
        ]

    def declares(self, planned: Sequence[Record]) -> Sequence[Claim]:
        """One claim per method: the loss makes no difference."""
        return self._sheet(sorted({r["run"]["method"]["name"] for r in planned}, key=rank), ()).claims

    def comparisons(self, planned: Sequence[Record]) -> int:
        """One per method and fraction."""
        names = sorted({r["run"]["method"]["name"] for r in planned}, key=rank)
        sheet = self._sheet(names, (), named=True)
        return len(meetings(rows_of([neutral(r) for r in planned], sheet), sheet.claims))

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """The table with its claims, the two rankings, and a figure of both."""
        names = sorted({r["run"]["method"]["name"] for r in records}, key=rank)
        found = rows_of([neutral(r) for r in records], self._sheet(names, (), named=True))
        sheet = self._sheet(names, rankings(found))
        return [*write_groups(found, folder, model, sheet), *draw(found, names, folder)]

    def _sheet(self, names: Sequence[str], remarks: tuple[str, ...], named: bool = False) -> Sheet:
        order = [f"{title(name)}, {way}" for name in names for way in WAYS.values()]
        claims = [
            Claim(f"{title(name)}: the loss on the prompt too makes no difference", after, before, equal=True)
            for name, before, after in zip(names, order[::2], order[1::2])
        ]
        return Sheet(
            "masking", "Loss on the response, or on the prompt too",
            (lambda record: str(record["run"]["method"]["name"])) if named else label,
            tuple(order), order[0], tuple(claims), remarks=remarks, first="method and loss",
        )  # fmt: skip


def rankings(found: Sequence[Group]) -> tuple[str, ...]:
    """The order of the methods under either loss, by accuracy and by held-out loss, at each fraction; sentences."""
    lines = []
    summary = summarise(Cells(in_order(found)))
    for column, up, what in (("accuracy", False, "accuracy"), ("heldout_nll", True, "held-out NLL")):
        for fraction in dict.fromkeys(g.fraction_pct for g in found if g.fraction_pct is not None):
            orders = []
            for way in WAYS.values():
                rows = summary[summary["method"].str.endswith(f", {way}") & summary[column].notna()]
                rows = rows[rows["fraction_pct"].isna() | np.isclose(rows["fraction_pct"], fraction)]
                orders.append(
                    [m.partition(",")[0] for m in rows.sort_values(column, ascending=up, kind="stable")["method"]]
                )
            if len(orders[0]) > 1 and sorted(orders[0]) == sorted(orders[1]):
                same = "the same" if orders[0] == orders[1] else "another"
                told = "; ".join(f"{way}: {' > '.join(order)}" for way, order in zip(WAYS.values(), orders))
                lines.append(
                    f"Order by {what} at {fraction:g} %: {same} ({told}); of means, not of differences that can be told."
                )
    return tuple(lines)


def draw(found: Sequence[Group], names: Sequence[str], folder: Path) -> list[Path]:
    """Both losses side by side, a line per method: where lines cross, the ranking changes."""
    summary = summarise(Cells(in_order(found)))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2 * WIDTH, 2.6), layout="constrained")
        panels = (
            ("accuracy", "ci95", "accuracy (%)"),
            ("heldout_nll", "heldout_nll_ci95", "held-out NLL (nats per token)"),
        )
        for axes, (column, half, text) in zip(figure.subplots(1, 2), panels):
            for i, name in enumerate(names):
                colour, marker = look(name, names)
                fractions = summary.loc[summary["method"].str.startswith(f"{title(name)}, "), "fraction_pct"]
                for fraction in fractions.drop_duplicates():
                    points = []
                    for way in WAYS.values():
                        rows = summary[summary["method"] == f"{title(name)}, {way}"]
                        rows = rows[
                            rows["fraction_pct"].isna() if np.isnan(fraction) else rows["fraction_pct"] == fraction
                        ]
                        points.append((rows[column].mean(), rows[half].fillna(0.0).mean()))
                    x = np.arange(2) + 0.03 * (i - len(names) / 2)
                    shown = title(name) if fraction == fractions.iloc[0] or np.isnan(fraction) else None
                    axes.errorbar(
                        x, [p[0] for p in points], yerr=[p[1] for p in points], color=colour, marker=marker, markersize=3.4,
                        linewidth=1.0, elinewidth=0.7, capsize=1.6, label=shown,
                    )  # fmt: skip
            axes.set_xticks([0, 1], list(WAYS.values()))
            axes.set_xlim(-0.3, 1.3)
            axes.set_xlabel(
                f"loss{'; bars: 95 % t-interval over seeds' if summary[half].notna().any() else ', one seed'}"
            )
            axes.set_ylabel(text)
        figure.axes[0].legend(frameon=False)
        return [save(figure, folder, f"masking.{kind}", kind) for kind in ("png", "svg")]

"""A table of methods by training mixture and benchmark, with its claims, from records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from smt_bench.data.family import Mixture
from smt_bench.evidence.cells import Cells, Group, common_tasks, summarise
from smt_bench.evidence.claims import Sheet, Weighed, weighed_together
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import percent, rank, task_title, title
from smt_bench.report import notes, trained
from smt_bench.report.accuracy.claims import (
    LIMITED,
    PUBLISHED,
    claims_table,
    limited,
    minus_published,
    sources,
    verdict_lines,
)
from smt_bench.report.canvas import STYLE, WIDTH, look, save
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table

Row = tuple[str, float | None]  # method, fraction


@dataclass(frozen=True)
class Part:
    """The columns of one mixture.

    Attributes:
        mixture: which.
        cells: its runs, by method and fraction.
        sheet: its claims, about rows under their methods' titles.
        printed: the paper's number (%) by method and task; None where it has none.
    """

    mixture: Mixture
    cells: Cells
    sheet: Sheet
    printed: Callable[[str, str], float | None]

    @cached_property
    def tasks(self) -> list[str]:
        """The benchmarks that all of its runs were judged by, in the mixture's order."""
        there = common_tasks(self.cells)
        return [task for task in self.mixture.tasks if task in there]

    def at(self, row: Row) -> Group | None:
        """The cell of a row; None without runs."""
        return next((g for g in self.cells if (g.method, g.fraction) == row), None)

    @property
    def comparable(self) -> bool:
        """Whether the printed numbers are answers to the same question: weights of the hub, likelihood, all benchmarks."""
        run = self.cells[0].run
        asked = run["evaluation"]
        judged = asked["protocol"] == "likelihood" and set(asked["tasks"]) == set(self.mixture.tasks)
        return bool(self.sheet.source) and run["model"]["weights"] == "hub" and judged

    @property
    def called(self) -> list[Group]:
        """Its cells as the claims name them."""
        return [g.called(title(g.method)) for g in self.cells]


def rows_of(parts: Sequence[Part]) -> list[Row]:
    """The rows that some part has, in display order."""
    found = {(g.method, g.fraction) for part in parts for g in part.cells}
    return sorted(found, key=lambda row: (rank(row[0]), row[1] or 0.0))


def write_parts(parts: Sequence[Part], folder: Path, model: str, name: str, heading: str) -> list[Path]:
    """Writes the table and, beside it, the claims of all mixtures, corrected together; the table first."""
    judged = weighed_together([(part.called, part.sheet) for part in parts])
    files = table(parts, model, heading, judged).write(folder, name)
    made = [claims_table(part.called, model, part.sheet, own) for part, own in zip(parts, judged) if own]
    if not made:
        return files
    titles = [part.mixture.title for part, own in zip(parts, judged) if own]
    whole = Table(
        made[0].title,
        made[0].header,
        [row for one in made for row in one.rows],
        together(titles, [one.notes for one in made]),
        [row for one in made for row in one.data or ()],
    )
    return files + whole.write(folder, f"{name}_claims")


def together(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The notes of several parts as one list: what all of them say once, anything else under its part's title."""
    found: list[str] = []
    for name, own in zip(titles, lines):
        for line in own:
            text = line if all(line in other for other in lines) else type(line)(f"{name}: {line}")
            found += [] if text in found else [text]
    return found


def table(parts: Sequence[Part], model: str, heading: str, judged: Sequence[Sequence[Weighed]]) -> Table:
    """A row per method and fraction; per mixture its benchmarks, their mean, and held-out NLL. Published ones below."""
    header = ["method", "trainable", "seeds"]
    for part in parts:
        header += [f"{part.mixture.title}: {task_title(task)}, %" for task in part.tasks]
        header += [f"{part.mixture.title}: mean, %", f"{part.mixture.title}: held-out NLL, nats/token"]
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for row in rows_of(parts):
        method, fraction = row
        found = [(part, part.at(row)) for part in parts]
        counts = [len(g.done) for _, g in found if g is not None]
        share = None if fraction is None else percent(round(100 * fraction, 10))
        rows.append([title(method), share, str(min(counts)) if min(counts) == max(counts) else notes.seeds(counts)])
        for part, group in found:
            rows[-1] += _cells(part, group)
            data += _lines(part, group, row)
        if any(part.comparable and any(part.printed(method, t) is not None for t in part.tasks) for part in parts):
            rows += _published(parts, row)
    lines = [
        *verdict_lines([w for own in judged for w in own], "table1"),
        "Accuracy, exact match or F1 (%) by benchmark, pass rate of programs; mean: over the mixture's benchmarks, each counting "
        "the same; NLL in nats per held-out response token of the mixture.",
    ]
    lines += together([p.mixture.title for p in parts], [_notes(part) for part in parts])
    runs = [r["run"] for part in parts for g in part.cells for r in g.done]
    if any(run["train"]["lr"] for run in runs) and not any(run.get("tuning") for run in runs):
        lines.append(
            "The rates are the recipe's, not searched on these mixtures: another may suit a method better. `run learning-rate` "
            "with these tasks looks."
        )
    return Table(f"{heading}, {model}", header, rows, lines, data)


def _cells(part: Part, group: Group | None) -> list[Cell]:
    width = len(part.tasks) + 2
    if group is None or not group.done:
        return [*[None] * (width - 1), None if group is None else group.status]
    summary = summarise(Cells((group,))).iloc[0]
    scores = [[t] for t in part.tasks] + ([part.tasks] if part.tasks else [])
    shown: list[Cell] = [written(*_pair(group, tasks)) for tasks in scores]
    shown += [] if part.tasks else [None]
    return [*shown, written(summary["heldout_nll"], 4, summary["heldout_nll_ci95"])]


def _pair(group: Group, tasks: Sequence[str]) -> tuple[float, int, float | None]:
    mean, half = mean_ci(group.answers.accuracies(tasks))
    return mean, 1, half


def _lines(part: Part, group: Group | None, row: Row) -> list[dict[str, Cell]]:
    """Long form: a line per mixture and benchmark, one for the mean."""
    if group is None:
        return []
    made: list[dict[str, Cell]] = []
    summary = summarise(Cells((group,))).iloc[0]
    for task in [*part.tasks, None]:
        tasks = part.tasks if task is None else [task]
        mean, half = mean_ci(group.answers.accuracies(tasks)) if group.done and tasks else (None, None)
        printed = part.printed(row[0], task) if task is not None and part.comparable else None
        made.append(
            {
                "method": row[0], "fraction_pct": group.fraction_pct, "mixture": part.mixture.name, "benchmark": task or "mean",
                "n_seeds": len(group.done), "accuracy": mean, "ci95": half,
                "stderr": group.answers.over_examples(tasks) if group.done and tasks else None,
                "heldout_nll": float(summary["heldout_nll"]) if task is None else None, "published": printed,
                "status": group.status, "keys": " ".join(r["key"] for r in (*group.done, *group.lost)),
            }
        )  # fmt: skip
    return made


def _published(parts: Sequence[Part], row: Row) -> list[list[Cell]]:
    theirs: list[Cell] = [f"{title(row[0])} (published)", None, None]
    apart: list[Cell] = [f"{title(row[0])} − published", None, None]
    for part in parts:
        group = part.at(row)
        for task in part.tasks:
            value = part.printed(row[0], task) if part.comparable else None
            theirs.append(None if value is None else f"({value:.1f})")
            apart.append(None if group is None else minus_published(group, [task], part.tasks, value))
        theirs += [None, None]
        apart += [None, None]
    return [theirs, apart]


def _notes(part: Part) -> list[str]:
    summary = summarise(part.cells)
    lines = [notes.spread(summary), *sources(part.cells, part.tasks)]
    if part.comparable:
        cut = any(limited(g, part.tasks) for g in part.cells)
        lines.append(f"Published: {part.sheet.source}, single runs. {LIMITED if cut else PUBLISHED}")
    lines += [*trained.setting(part.cells), *trained.deviations(part.cells), notes.format_failures(summary)]
    return [*lines, *notes.overlap(part.cells, part.tasks), *notes.losses(part.cells), notes.provenance(part.cells)]


def draw(parts: Sequence[Part], folder: Path, name: str) -> list[Path]:
    """A panel per mixture: benchmarks along x, a marker per row, bars of the interval over seeds."""
    rows = rows_of(parts)
    methods = list(dict.fromkeys(method for method, _ in rows))
    several = {m for m in methods if sum(method == m for method, _ in rows) > 1}
    widths = [len(part.tasks) + 1 for part in parts]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(WIDTH, 0.75 * sum(widths) + 0.8), 2.8), layout="constrained")
        panels: Any = figure.subplots(1, len(parts), sharey=True, squeeze=False, width_ratios=widths)
        bars = False
        for axes, part in zip(panels[0], parts):
            for i, row in enumerate(rows):
                group = part.at(row)
                if group is None or not group.done or not part.tasks:
                    continue
                points = [
                    mean_ci(group.answers.accuracies(tasks)) for tasks in [*([t] for t in part.tasks), part.tasks]
                ]
                bars |= any(half is not None for _, half in points)
                colour, marker = look(row[0], methods)
                share = "" if row[0] not in several or row[1] is None else f" {percent(round(100 * row[1], 10))}"
                x = np.arange(len(points)) + 0.6 * ((i + 0.5) / len(rows) - 0.5)
                axes.errorbar(
                    x, [mean for mean, _ in points], yerr=[half or 0.0 for _, half in points], color=colour, marker=marker,
                    markersize=3.4, linestyle="none", elinewidth=0.7, capsize=1.6, label=title(row[0]) + share,
                )  # fmt: skip
            axes.set_xticks(range(len(part.tasks) + 1), [*map(task_title, part.tasks), "mean"], rotation=30, ha="right")
            axes.set_title(part.mixture.title, fontsize=7)
            axes.grid(axis="y", linewidth=0.3)
        panels[0][0].set_ylabel(f"accuracy, exact match or F1 (%){'; bars: 95 % over seeds' if bars else ''}")
        named = {text: line for axes in panels[0] for line, text in zip(*axes.get_legend_handles_labels())}
        if named:
            figure.legend(
                list(named.values()), list(named), loc="outside upper center", ncols=min(6, len(named)), frameon=False
            )
        return [save(figure, folder, f"{name}.{kind}", kind) for kind in ("png", "svg")]

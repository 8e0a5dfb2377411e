"""SpIEL's figure 2: when were the deltas grown that are there at the end?

Claims (SpIEL, section 5.3): SpIEL-MA introduces fewer new indices late in training than SpIEL-AG; larger models keep more of
their early indices. The second is about two models, and a table about one: it says so, with the numbers to hold beside another's.

Both methods may move the same number of deltas at the same steps; what differs is which are dropped again. So the share of the
final deltas that were grown in a part of the training says how settled the early choice is. The runs are the plateau's, and are
shared with it.
"""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D

from smt_bench.evidence.decisions import OPEN
from smt_bench.evidence.interval import mean_of
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.verdicts import Claim, judge
from smt_bench.evidence.words import family_title, percent, title
from smt_bench.experiments.why.projections import blank
from smt_bench.questions.experiment import TrainingExperiment
from smt_bench.questions.grid import Cell, grid, middle
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record
from smt_bench.report import notes
from smt_bench.report.canvas import STYLE, lay_out, look, save
from smt_bench.report.numbers import written
from smt_bench.report.table import Table

METHODS = ("spiel", "spiel-ma")
CLAIM = "SpIEL-MA introduces fewer new indices late in training (section 5.3)"
LARGER = "larger models keep more of their early indices (section 5.3)"
LATE = 0.5  # of the run: what is grown after it is called late
MATTERS = 1.0  # points of the run
Cells = Mapping[tuple[str, float], Sequence[Record]]


def grown_at(record: Record) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """When a run's final deltas were grown, as a share of the run (0: never moved), and how many at each time; both (U,)."""
    histogram = {int(step): number for step, number in record["method"]["age_histogram"].items()}
    steps = np.array(sorted(histogram))
    return steps / record["run"]["train"]["steps"], np.array([histogram[step] for step in steps.tolist()])


def mean_time(record: Record) -> float:
    """Mean of the times at which the final deltas were grown, in % of the run."""
    times_U, numbers_U = grown_at(record)
    return float(100 * (times_U * numbers_U).sum() / numbers_U.sum())


def late_share(record: Record) -> float:
    """Share of the final deltas that were grown late, in %."""
    times_U, numbers_U = grown_at(record)
    return float(100 * numbers_U[times_U > LATE].sum() / numbers_U.sum())


class SpielAges(TrainingExperiment):
    """SpIEL-AG and SpIEL-MA at one fraction unless more are asked for."""

    name = "spiel-ages"
    reproduces = "SpIEL figure 2: when the deltas were grown that are there at the end, by growth criterion"
    needs = "any model; commonsense (default) or math tasks"

    def method_names(self, planner: Planner) -> list[str]:
        """The two, or those of them that were asked for.

        Raises:
            ValueError: another one was asked for.
        """
        return planner.among(METHODS, f"only {' and '.join(METHODS)} move their deltas")

    def cells(self, planner: Planner) -> list[Cell]:
        """Methods x fractions."""
        return grid(planner, self.method_names(planner), middle(planner))

    def declares(self, planned: Sequence[Record]) -> Sequence[Claim]:
        """Its one claim: the first method's deltas are the later ones."""
        return [Claim(CLAIM, *METHODS)]

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """One row per method and fraction; the verdict below; figure 2."""
        cells: dict[tuple[str, float], list[Record]] = {}
        for record in records:
            method = record["run"]["method"]
            if record["status"] == "done":
                cells.setdefault((method["name"], method["fraction"]), []).append(record)
        cells = {place: cells[place] for place in sorted(cells, key=lambda p: (p[1], METHODS.index(p[0])))}
        files = _table(records, cells, model).write(folder, "figure2")
        return files + (_draw(cells, folder) if cells else [])


def _table(records: Sequence[Record], cells: Cells, model: str) -> Table:
    data, rows = [], []
    for (name, fraction), found in cells.items():
        times, late = [mean_time(r) for r in found], [late_share(r) for r in found]
        (mean, half), (share, share_half) = mean_ci(times), mean_ci(late)
        moved = statistics.mean(r["method"]["replaced"] for r in found)
        first = found[0]
        data.append(
            {
                "method": name,
                "fraction_pct": 100 * fraction,
                "n_seeds": len(found),
                "mean_time_pct": mean,
                "mean_time_ci95": half,
                "late_pct": share,
                "late_ci95": share_half,
                "updates": first["method"]["updates"],
                "moved_per_delta": moved / first["capacity"]["units"],
                "keys": " ".join(r["key"] for r in found),
            }
        )
        rows.append(
            [
                title(name),
                percent(100 * fraction),
                len(found),
                first["method"]["updates"],
                f"{moved / first['capacity']['units']:.2f}",
                written(mean, 1, half),
                written(share, 1, share_half),
            ]
        )
    sample = records[0]["run"]
    config = sample["method"]["config"]
    lines = [
        *_verdicts(cells),
        f"Claim: {LARGER}: {OPEN} (one model): hold 'grown at' beside that of another size, run with the same data and steps.",
        f"{sample['train']['steps']} steps; indices move after step {config['estimate_steps']}, where all do, and then every "
        f"{config['update_every']} steps. Deltas moved: all moves of the run, per delta.",
        "Grown: mean over the final deltas of the step at which each was grown, in % of the run. Late: after "
        f"{100 * LATE:g} % of the run. ±: 95 % over seeds.",
        notes.made_with(records),
    ]
    header = ["method", "trainable", "seeds", "updates", "moves per delta", "grown at, % of the run", "grown late, %"]
    heading = f"SpIEL figure 2: when the final deltas were grown, {model}, {family_title(sample['data']['family'])}"
    return Table(heading, header, rows, lines, data, ["method", "fraction_pct", "mean_time_pct"])


def _verdicts(cells: Cells) -> list[str]:
    """Claim by fraction: SpIEL-AG's final deltas are younger; runs of one seed had the same batches."""
    fractions = sorted({fraction for _, fraction in cells})
    differences = {}
    for fraction in fractions:
        by_seed = [{r["run"]["seed"]: mean_time(r) for r in cells.get((name, fraction), ())} for name in METHODS]
        shared = sorted(by_seed[0].keys() & by_seed[1].keys())
        if shared:
            differences[fraction] = [by_seed[0][seed] - by_seed[1][seed] for seed in shared]
    if not differences:
        return [f"Claim: {CLAIM}: needs runs of both methods."]
    told = judge([mean_of(values) for values in differences.values()], MATTERS, "{:.1f} % of the run".format)
    shown = [written(statistics.mean(values), 1, mean_ci(values)[1], signed=True) for values in differences.values()]
    said = "; ".join(
        f"{percent(100 * fraction)}: {difference} % of the run, {verdict}"
        for fraction, difference, verdict in zip(differences, shown, told)
    )
    return [f"Claim: {CLAIM}: SpIEL-AG's deltas minus SpIEL-MA's, {said}."]


def _draw(cells: Cells, folder: Path) -> list[Path]:
    """Figure 2 as a cumulative share: what of the final deltas was there by when."""
    with matplotlib.rc_context(STYLE):
        seeds = notes.seeds([len(found) for found in cells.values()])
        fractions = sorted({fraction for _, fraction in cells})
        caption = textwrap.wrap(
            f"One line per seed ({seeds}), trainable {', '.join(percent(100 * f) for f in fractions)}. A line that rises early "
            "belongs to a method that settles early.",
            78,
        )
        figure = blank(caption)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        for (name, fraction), found in cells.items():
            colour, _ = look(name, METHODS)
            dashes = "-" if fraction == fractions[0] else (0, (4, 1 + fractions.index(fraction)))
            for record in found:
                times_U, numbers_U = grown_at(record)
                share_U = 100 * numbers_U.cumsum() / numbers_U.sum()
                times, shares = [0, *100 * times_U, 100], [0, *share_U, 100]
                axes.step(times, shares, where="post", color=colour, linewidth=0.8, linestyle=dashes)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 103)
        axes.set_xlabel("grown by (% of the run)")
        axes.set_ylabel("share of the final deltas (%)")
        axes.tick_params(width=0.6, length=2.5)
        names = [name for name in METHODS if any(name == place[0] for place in cells)]
        handles = [Line2D([], [], color=look(n, METHODS)[0], linewidth=1.1, label=title(n)) for n in names]
        lay_out(figure, axes, handles, caption, [])
        return [save(figure, folder, f"figure2.{kind}", kind) for kind in ("png", "svg")]

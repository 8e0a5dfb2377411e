"""The tables of a tuning: what was found for each method, and every trial."""

from __future__ import annotations

import math

from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import percent, title
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table
from smt_bench.report.tuning.rows import NEAR, Found, TrialRow

EDGE = 0.1  # part of a range at each end in which a setting lies at its edge


def words(knobs: dict[str, float]) -> str:
    """E.g. "lr 0.002, alpha_per_rank 1.5"."""
    return ", ".join(f"{name} {value:g}" for name, value in knobs.items())


def found_table(found: Found) -> Table:
    """One row per method: what was found, by how many trials and how much time, and how wide its basin is."""
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    edges = []
    for method in found.methods:
        own = found.of(method)
        losses = [loss for loss in found.losses(method) if math.isfinite(loss)]
        best = min(losses, default=None)
        near = None if best is None else sum(loss <= best * (1 + NEAR) for loss in losses)
        winner = next((t for t in own if t.winner), None)
        again = [loss for loss in winner.again if loss is not None] if winner else []
        mean, ci = mean_ci(again) if again else (None, None)
        seconds = sum(t.seconds for t in own)
        runs = sum(len(t.keys) for t in own if t.status)
        lost = sum(bool(t.status) and t.loss is None for t in own)
        usual = {knob: value for knob, value in found.usual[method].items() if value is not None}
        fraction = found.fractions.get(method)
        rows.append(
            [
                title(method),
                None if fraction is None else percent(100 * fraction),
                words(usual),
                None if winner is None else words(dict(winner.knobs)),
                sum(bool(t.status) for t in own),
                lost,
                written(best, 4),
                written(mean, 4, ci),
                None if near is None else f"{near} of {len(found.losses(method))}",
                runs,
                f"{seconds / 60:.1f}",
            ]
        )
        data.append(
            {
                "method": method,
                "fraction_pct": None if fraction is None else 100 * fraction,
                "trials": sum(bool(t.status) for t in own),
                "without_number": lost,
                "best_loss": best,
                "chosen_loss": mean,
                "chosen_ci95": ci,
                "near_best": near,
                "runs": runs,
                "seconds": seconds,
                "recipe": words(usual),
                "chosen": None if winner is None else words(dict(winner.knobs)),
                "keys": " ".join(key for t in own for key in t.keys),
            }
        )
        if winner is not None:
            edges += _edges(found, winner)
    header = [
        "method", "trainable", "recipe", "found", "trials", "without a number", "best trial", "chosen, later seeds",
        f"within {100 * NEAR:g} % of the best", "runs", "minutes",
    ]  # fmt: skip
    first, *later = found.seeds
    lines = [
        f"Tuning {found.name}: {found.asked} trials of every method, drawn independently; one seed ({first}). The best three "
        f"are run again with seeds {', '.join(map(str, later))}, and the lowest mean over these alone is chosen: the first seed "
        "chose the three. None of these seeds is ever reported.",
        "Loss: held-out NLL (nats per response token) on the part that choices are made by; no test set is looked at. ±: 95 % "
        "Student-t interval over the later seeds.",
        *(
            [
                f"The learning rates of all methods were widened ({', '.join(found.wider)} end): a best trial lay at the edge."
            ]
            if found.wider
            else ["No best trial lay at the edge of its learning rates."]
        ),
        *edges,
        "Minutes: of all runs of the method, tests included, on the machines of the records; equal trials are not equal compute.",
        *found.conditions,
    ]
    if found.stage != "done":
        lines.insert(0, f"Not finished: {found.stage} lacks runs.")
    return Table(f"Rates and settings found, {found.model}", header, rows, lines, data)


def _edges(found: Found, winner: TrialRow) -> list[str]:
    """Sentences on settings of a winner that lie at the edge of what was searched."""
    lines = []
    for knob, span in found.spans[winner.method].items():
        part = span.part(winner.knobs[knob])
        beyond = part > 1 - EDGE or (part < EDGE and span.low > 0)  # no setting that is searched can be below 0
        if span.low < span.high and beyond:
            end = "lower" if part < EDGE else "upper"
            lines.append(
                f"{title(winner.method)}: {knob} {winner.knobs[knob]:g} lies at the {end} edge of {span.low:g} to {span.high:g}: "
                "its optimum may lie beyond."
            )
    return lines


def trials_table(found: Found) -> Table:
    """Every trial, the best of each method first."""
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for method in found.methods:
        for t in sorted(found.of(method), key=lambda t: math.inf if t.loss is None else t.loss):
            again = [None if loss is None else round(loss, 4) for loss in t.again]
            told = ", ".join("none" if loss is None else f"{loss:.4f}" for loss in again)
            mark = " *" if t.winner else ""
            rows.append(
                [title(method), words(dict(t.knobs)), (written(t.loss, 4) or t.status) + mark, told, t.stage, t.keys[0]]
            )
            line: dict[str, Cell] = {
                "method": method,
                "knobs": words(dict(t.knobs)),
                "lr": t.knobs["lr"],
                "loss": t.loss,
            }
            data.append(
                line
                | {"later": told, "stage": t.stage, "status": t.status, "winner": int(t.winner), "seconds": t.seconds}
                | {"keys": " ".join(t.keys)}
            )
    lines = [
        "*: chosen. Later seeds: only of the best three. Stage: 0, or which widening of the learning rates a trial belongs to.",
    ]
    header = ["method", "settings", "held-out NLL", "later seeds", "stage", "key"]
    return Table(f"Trials of tuning {found.name}, {found.model}", header, rows, lines, data)

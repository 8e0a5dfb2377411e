"""What adding two adapters gained and lost, and what they have in common; every row's accuracy on either half."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from smt_bench.evidence.interval import Estimate
from smt_bench.evidence.stats import mean_ci
from smt_bench.evidence.words import percent, task_title, title
from smt_bench.experiments.accuracy.composition.found import BOTH, OWN, SUM, A, B, Found
from smt_bench.records import heldout
from smt_bench.report import notes, trained
from smt_bench.report.accuracy.claims import INTERVAL
from smt_bench.report.numbers import written
from smt_bench.report.table import Cell, Table

NAMES = {"a": A, "b": B, "sum": SUM, "both": BOTH, "own": OWN}


def gains(found: Found, said: Sequence[str], model: str) -> Table:
    """A row per method: each adapter alone, the sum, both halves at once; gain, interference, and what the two share.

    Args:
        found: the cells.
        said: the verdict on the paper's claims; sentences.
        model: name for the title.
    """
    data: list[dict[str, Any]] = []
    for method, fraction in found.places:
        summed = found.group(method, SUM, fraction)
        common = [r["composition"] for r in summed.done] if summed is not None else []
        chosen = found.chosen_alike(method, fraction)
        better = found.better(method, fraction)
        line: dict[str, Any] = {
            "method": method,
            "fraction_pct": None if fraction is None else round(100 * fraction, 10),
            "n_seeds": len(common),
            "better": better,
            **{f"accuracy_{name}": found.accuracy(method, what, fraction) for name, what in NAMES.items()},
            **numbers("gain", found.minus(method, SUM, better, fraction)),
            **numbers("interference", found.minus(method, OWN, SUM, fraction)),
            "in_common_pct": _mean([100 * c["shared"] / min(c["numbers"]) for c in common if min(c["numbers"])]),
            "by_chance_pct": _mean([100 * c["by_chance"] / min(c["numbers"]) for c in common if min(c["numbers"])]),
            "opposed_pct": _mean([100 * c["opposed"] / c["shared"] for c in common if c["shared"]]),
            "cosine": _mean([c["cosine"] for c in common if c["cosine"] is not None]),
            "blocks_in_common_pct": _mean([share for share, _ in chosen]),
            "blocks_by_chance_pct": _mean([chance for _, chance in chosen]),
            "keys": " ".join(r["key"] for r in found.runs(method, fraction)),
        }
        data.append(line)
    blocks = any(line["blocks_in_common_pct"] is not None for line in data)
    header = [
        "method", "trainable", "seeds", "A alone, %", "B alone, %", "sum, %", "both at once, %", "gain, points",
        "interference, points", "in common, %", "by chance, %", "opposed, %", "cosine",
    ]  # fmt: skip
    header += ["blocks in common, %", "by chance, %"] if blocks else []
    lines = [
        *said,
        f"A is trained on {_tasks(found.parts[0])}, B on {_tasks(found.parts[1])}; accuracy: mean over all of these, every task "
        "counting the same. Rows of single runs in composition_rows.md.",
        "Gain: the sum minus the more accurate adapter, as in the paper; it is picked by these very answers, which favours it: "
        "gains are rather too small, and the claims compare the sum with either adapter. Interference: each adapter on its own "
        f"half, minus the sum. {INTERVAL} A sum and its parts count as independent, which makes intervals rather too wide.",
        "In common: of the numbers that the smaller adapter changed, those that the other changed too (by chance: random sets of "
        "these sizes, matrix by matrix); opposed: of these, moved in opposite directions; cosine: of the two changes as vectors.",
    ]
    if blocks:
        lines.append(
            "Blocks in common: of the blocks chosen for one adapter, those chosen for the other too (by chance: drawn from all "
            "blocks). Where all numbers are in common beside it, a dense warm-up has changed them all before the choice."
        )
    lines += [*notes.floor([g for (_, what, _), g in found.cells.items() if what != OWN], found.tasks), *around(found)]
    rows = [_row(line, blocks) for line in data]
    return Table(f"SpIEL table 1, composition: {model}", header, rows, lines, data, ["method", "fraction_pct"])


def _row(line: dict[str, Any], blocks: bool) -> list[Cell]:
    """A row for people."""
    shares = ["in_common_pct", "by_chance_pct", "opposed_pct"]
    made: list[Cell] = [
        title(line["method"]),
        "" if line["fraction_pct"] is None else percent(line["fraction_pct"]),
        line["n_seeds"],
        *(written(line[f"accuracy_{name}"], 1) for name in ("a", "b", "sum", "both")),
        *(difference(line, name) for name in ("gain", "interference")),
        *(written(line[name], 1) for name in shares),
        written(line["cosine"], 3),
    ]
    return made + ([written(line[f"blocks_{name}"], 1) for name in shares[:2]] if blocks else [])


def rows_of_runs(found: Found, model: str) -> Table:
    """A row per method and kind of run: accuracy on either half and on all tasks, and held-out NLL."""
    data: list[dict[str, Any]] = []
    rows: list[list[Cell]] = []
    for method, fraction in found.places:
        for name, what in ((n, w) for n, w in NAMES.items() if w != OWN):
            group = found.cells.get((method, what, fraction))
            if group is None:
                continue
            values = {
                part: group.answers.accuracies(tasks) if group.done else []
                for part, tasks in (("a", found.parts[0]), ("b", found.parts[1]), ("all", found.tasks))
            }
            nll = [v for r in group.done if (v := heldout.nll(r, "report")) is not None]
            line: dict[str, Any] = {
                "method": method, "kind": name, "fraction_pct": group.fraction_pct, "n_seeds": len(group.done),
            }  # fmt: skip
            shown: list[Cell] = [
                title(method),
                what,
                "" if group.fraction_pct is None else percent(group.fraction_pct),
                len(group.done),
            ]
            for part, scores in values.items():
                mean, half = mean_ci(scores) if scores else (None, None)
                line |= {f"accuracy_{part}": mean, f"ci95_{part}": half}
                shown.append(written(mean, 1, half) or group.status)
            mean, half = mean_ci(nll) if nll else (None, None)
            line |= {"heldout_nll": mean, "heldout_nll_ci95": half}
            line |= {"keys": " ".join(r["key"] for r in (*group.done, *group.lost))}
            data.append(line)
            rows.append([*shown, written(mean, 4, half)])
    header = ["method", "run", "trainable", "seeds", "on A's tasks, %", "on B's tasks, %", "on all, %", "held-out NLL"]
    lines = [
        f"A's tasks: {_tasks(found.parts[0])}; B's: {_tasks(found.parts[1])}. ±: 95 % over seeds.",
        "Held-out NLL: of responses of all tasks (nats per token), which no run was trained on.",
        *around(found),
    ]
    return Table(f"Adapters alone and added: {model}", header, rows, lines, data)


def around(found: Found) -> list[str]:
    """How the runs were made, and which have no numbers; sentences."""
    cells = [g for (_, what, _), g in found.cells.items() if what in (BOTH, SUM)] or list(found.cells.values())
    return [
        *trained.setting([g.called(g.method.partition(", ")[0]) for g in cells if g.method.endswith(BOTH)] or cells),
        *notes.losses([g for (_, what, _), g in found.cells.items() if what != OWN]),
        notes.made_with(found.records),
    ]


def numbers(name: str, estimate: Estimate | None) -> dict[str, Cell]:
    """An estimate with the ends of its interval, as columns."""
    low, high = (estimate and estimate.interval()) or (None, None)
    return {name: None if estimate is None else estimate.value, f"{name}_low": low, f"{name}_high": high}


def difference(line: Mapping[str, Any], name: str) -> str | None:
    """Such columns for people (points)."""
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return written(line[name], 1, None, None if low is None else (low, high), signed=True)


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _tasks(names: Sequence[str]) -> str:
    return ", ".join(map(task_title, names))

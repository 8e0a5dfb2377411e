"""Seeds item by item, and calibration, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from smt_bench.evidence.cells import Cells, common_tasks, groups
from smt_bench.evidence.group import keys_of
from smt_bench.evidence.item_by_item import BINS, summary
from smt_bench.evidence.words import percent, title
from smt_bench.records.store import Record
from smt_bench.report import notes
from smt_bench.report.table import Cell, Table


def seeds_table(records: Iterable[Record] | Cells, model: str) -> Table | None:
    """One row per cell; None where no record says anything of the kind.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    tasks = common_tasks(found)
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for group in found:
        line = summary(group, tasks)
        if all(value is None for value in line.values()):
            continue
        share = None if group.fraction_pct is None else percent(group.fraction_pct)
        rows.append([title(group.method), share, str(len(group.done))])
        rows[-1] += [_written(line[name], 100, 1) for name in ("agreement",)] + [_written(line["kappa"], 1, 2)]
        rows[-1] += [_written(line[name], 100, 1) for name in ("always_right", "never_right")]
        rows[-1] += [_written(line[name], 1, 3) for name in ("ece", "brier")]
        head: dict[str, Cell] = {"method": group.method, "fraction_pct": group.fraction_pct, "n_seeds": len(group.done)}
        data.append({**head, **line, "keys": keys_of([group])})
    if not rows:
        return None
    lines = [
        "Seeds agree: two runs are both right or both wrong on a test example, mean over pairs of runs; kappa (Fleiss): the same "
        "beyond chance, 0 to 1. Two cells of equal accuracy need not know the same things.",
        f"ECE: expected calibration error over the options ({BINS} bins; Guo et al. 2017), Brier: squared distance of their "
        "probabilities from the truth (0 to 2), lower is better; means over seeds. Not where answers are generated, nor of "
        "records from before schema 3, which kept the right option's likelihood only.",
        *notes.losses(found),
    ]
    header = [
        "method",
        "parameters",
        "seeds",
        "seeds agree, %",
        "kappa",
        "right by all seeds, %",
        "by none, %",
        "ECE",
        "Brier",
    ]
    shown = [i for i in range(len(header)) if i < 3 or any(row[i] is not None for row in rows)]
    texts = [[row[i] for i in shown] for row in rows]
    return Table(f"Seeds item by item, and calibration, {model}", [header[i] for i in shown], texts, lines, data)


def _written(value: float | None, scale: float, digits: int) -> str | None:
    return None if value is None else f"{scale * value:.{digits}f}"

"""From a tuning to its files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from smt_bench.report.tuning.curves import FEWEST, curve_table, draw_curves, draw_knobs
from smt_bench.report.tuning.rows import Found
from smt_bench.report.tuning.tables import found_table, trials_table

NO_BANDS = 'no curves of the best of so many trials: the bands need the package opda: pip install "smt-bench[tune]"'


def write(found: Found, folder: Path) -> list[Path]:
    """Writes tables and figures; returns the files, the main table first. Without `opda` there are no tuning curves."""
    main = found_table(found)
    table, curves = curve_table(found) if find_spec("opda") is not None else (None, {})
    if curves:
        main.notes = [*main.notes, "Best of so many trials: tuning_curve.md."]
    elif table is None:
        main.notes = [*main.notes, f"Here {NO_BANDS}."]
    else:
        main.notes = [
            *main.notes,
            f"No curves of the best of so many trials: they take at least {FEWEST} trials of a method.",
        ]
    files = [*main.write(folder, "tuning"), *trials_table(found).write(folder, "tuning_trials")]
    if any(t.loss is not None for t in found.trials):
        files += draw_knobs(found, folder)
    if table is not None and curves:
        files += [*table.write(folder, "tuning_curve"), *draw_curves(found, curves, folder)]
    return files

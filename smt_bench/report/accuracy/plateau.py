"""From records to the files of an accuracy experiment. Reads records only, never a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smt_bench.evidence import published as papers
from smt_bench.evidence.cells import Cells, Group, groups, summarise
from smt_bench.evidence.claims import Sheet, weighed
from smt_bench.evidence.pairs import verdicts
from smt_bench.evidence.words import family_title
from smt_bench.records.store import Record
from smt_bench.report.accuracy.by_fraction import publishable, table3, table3_heldout
from smt_bench.report.accuracy.by_task import table2
from smt_bench.report.accuracy.claims import claims_table, verdict_lines
from smt_bench.report.accuracy.cost import cost_table
from smt_bench.report.accuracy.curves import accuracy_by_fraction, heldout_by_fraction
from smt_bench.report.accuracy.pairs import comparisons
from smt_bench.report.accuracy.plateau_verdict import plateau_table
from smt_bench.report.accuracy.seeds import seeds_table

__all__ = ["comparisons", "summarise", "table2", "table3", "table3_heldout", "verdicts", "write_plateau"]


def write_plateau(
    records: Sequence[Record] | Cells,
    folder: Path,
    model: str,
    reference: str,
    rows: Sequence[Group] = (),
    sheet: Sheet | None = None,
) -> list[Path]:
    """Writes tables 3 and 2, figure 9, their held-out companions, the plateau verdicts and the exploratory comparisons.

    Unfinished sweeps are welcome: what has no number is blank, and says why where it diverged or failed.

    Args:
        records: of one experiment on one model; of a cell run under several settings, only the newest counts.
        folder: where the files go.
        model: name of the model, for titles and for its published numbers.
        reference: the method that the others are compared with.
        rows: the cells that the claims are about, called as the claims call them.
        sheet: the paper's claims.

    Returns:
        The files, the main table first.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    family = found[0].run["data"]["family"]
    curves = papers.plateau(model, family) if publishable(found, model)[0] else None
    summary = summarise(found)
    about = f"{model}, {family_title(family)}"
    judged = weighed(rows, sheet) if sheet is not None else []
    cost = cost_table(found, model)
    beside = [] if cost is None else cost.write(folder, "cost")
    if not found[0].run["evaluation"]["tasks"]:  # data without a test set
        files = table3_heldout(found, model).write(folder, "table3_heldout")
        files += heldout_by_fraction(summary, folder, about) if summary["heldout_nll"].notna().any() else []
        return files + beside
    files = [
        *table3(found, model, verdict_lines(judged, "table3")).write(folder, "table3"),
        *table2(found, model).write(folder, "table2"),
        *accuracy_by_fraction(summary, folder, about, curves),
        *comparisons(found, model, reference).write(folder, "comparisons"),
    ]
    if (plateau := plateau_table(found, model)) is not None:
        files += plateau.write(folder, "table3_plateau")
    if (seeds := seeds_table(found, model)) is not None:
        files += seeds.write(folder, "table3_seeds")
    if judged and sheet is not None:
        files += claims_table(found, model, sheet, judged).write(folder, "table3_claims")
    if summary["heldout_nll"].notna().any():
        files += table3_heldout(found, model).write(folder, "table3_heldout")
        files += heldout_by_fraction(summary, folder, about)
    return files + beside

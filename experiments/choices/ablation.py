"""What the ablations share: SMT under changed settings, all else equal, at one trainable fraction unless asked otherwise."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smt_bench.evidence.claims import Sheet, meetings
from smt_bench.evidence.published import PAPER_PCT
from smt_bench.evidence.verdicts import Claim
from smt_bench.methods.smt.selection import grid as block_grid
from smt_bench.questions.experiment import OneMethodExperiment
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record
from smt_bench.report.accuracy.variants import rows_of, write_sheet


def budgets(planner: Planner, variants: Sequence[dict[str, Any]], paper_pct: float = PAPER_PCT) -> list[float]:
    """The fractions asked for, else one: the paper's, or on small models the recipe's middle one.

    Where some variant's matrices cannot hold that much, the largest smaller fraction of the recipe that all can hold
    (halves of the smallest after that), so that all rows train equally many numbers.

    Raises:
        ValueError: a setting that fits no fraction.
    """
    if planner.request.fractions_pct:
        return planner.fractions()
    usual = sorted(planner.fractions())
    papers = planner.recipe.protocol == "llm-adapters"
    candidates = [round(paper_pct / 100, 12)] if papers else usual[: len(usual) // 2 + 1][::-1]
    candidates += [round(candidates[-1] / 2, 12), round(candidates[-1] / 4, 12)]
    for i, fraction in enumerate(candidates):
        try:
            for changes in variants:
                planner.check_capacity("smt", fraction, **changes)
            return [fraction]
        except ValueError:
            if i == len(candidates) - 1:
                raise
    raise AssertionError("no candidate")


def one_side(planner: Planner, targets: tuple[str, ...]) -> dict[str, Any]:
    """The setting that gives rows with other targets the block side that all of `targets` share.

    Nothing where the recipe names a side; where it says "auto", Q alone would get larger blocks than Q, K and V together.
    """
    usual = planner.config("smt", 1000)["block_size"]
    return {"block_size": block_grid(planner.shapes, targets, "auto")[0]} if usual == "auto" else {}


class Ablation(OneMethodExperiment):
    """An experiment made of SMT runs, which become a table each per sheet."""

    method = "smt"
    needs = "any model; commonsense (default) or math tasks"

    @abstractmethod
    def sheets(self, records: Sequence[Record]) -> Sequence[Sheet]:
        """The tables that records become, the main one first."""

    def declares(self, planned: Sequence[Record]) -> list[Claim]:
        """The claims of all its tables."""
        return [claim for sheet in self.sheets(planned) for claim in sheet.claims]

    def comparisons(self, planned: Sequence[Record]) -> int:
        """Of all its tables."""
        sheets = [s for s in self.sheets(planned) if any(s.label(record) is not None for record in planned)]
        pairs = [pair for s in sheets for pair in meetings(rows_of(planned, s), s.claims)]
        return sum(not claim.control for claim, _, _ in pairs)

    def render(self, records: Sequence[Record], folder: Path, model: str) -> list[Path]:
        """The tables of which there are records."""
        files: list[Path] = []
        for sheet in self.sheets(records):
            if any(sheet.label(record) is not None for record in records):
                files += write_sheet(records, folder, model, sheet)
        return files


def config(record: Record) -> dict[str, Any]:
    """The method's settings of a record."""
    found: dict[str, Any] = record["run"]["method"]["config"]
    return found

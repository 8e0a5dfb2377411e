"""Table 12: the side of a block.

Claim (SMT, appendix I): smaller blocks are slightly better ("+0.5 point"; printed: 78.7 for 256, 79.0 for 128, 79.2 for 64),
but slower.

Sides tried: 256, 128, 64 and 32 where they divide all of Q, K and V, and the largest side that does. `speed` and `kernels` say
what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from smt_bench.evidence.claims import Sheet
from smt_bench.evidence.published import average
from smt_bench.evidence.verdicts import Claim
from smt_bench.experiments.choices.ablation import Ablation, budgets, config
from smt_bench.methods.smt.selection import grid as block_grid
from smt_bench.questions.grid import Cell, grid
from smt_bench.questions.planner import Planner
from smt_bench.records.store import Record

SIDES = (256, 128, 64, 32)


def label(record: Record) -> str | None:
    """The side that was used; where the run did not come so far, the one asked for."""
    return str(record.get("method", {}).get("block_size") or config(record)["block_size"])


class BlockSize(Ablation):
    """One budget in blocks of several sides."""

    name = "block-size"
    reproduces = "SMT table 12: block sides 256, 128, 64, 32, and the largest that the model allows"

    def cells(self, planner: Planner) -> list[Cell]:
        """One per side, the largest first."""
        usual = planner.config("smt", 1000)
        largest, _ = block_grid(planner.shapes, usual["targets"], "auto")
        recipe, _ = block_grid(planner.shapes, usual["targets"], usual["block_size"])
        sides = sorted({largest, recipe, *(s for s in SIDES if largest % s == 0)}, reverse=True)
        # The recipe's own side as the recipe writes it, perhaps "auto": the same question as in the other experiments.
        variants: list[dict[str, object]] = [{} if side == recipe else {"block_size": side} for side in sides]
        return grid(planner, ["smt"], budgets(planner, variants), variants)

    def sheets(self, records: Sequence[Record]) -> tuple[Sheet, ...]:
        """Table 12."""
        sides = sorted({str(label(r)) for r in records}, key=lambda side: -int(side) if side.isdigit() else 0)
        largest = sides[0]
        claims = [Claim(f"{side} beats {largest} (appendix I: slightly better)", side, largest) for side in sides[1:]]
        return (
            Sheet(
                "table12",
                "Table 12: block sides",
                label,
                tuple(sides),
                largest,
                tuple(claims),
                lambda name, _: average("smt_table12_block_size", block_size=float(name)) if name.isdigit() else None,
                "SMT table 12, LLaMA-7B, 0.84 %",
                first="block side",
            ),
        )

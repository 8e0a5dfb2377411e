"""From the records of `kernels` to its tables. Milliseconds are medians over seeds of each record's medians."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smt_bench.evidence import published as papers
from smt_bench.experiments.cost.kernels import nf4
from smt_bench.experiments.cost.kernels.deltas import PART, write_deltas
from smt_bench.records.store import Record
from smt_bench.report.measured import measured
from smt_bench.report.table import Cell, Table, filled

Row = dict[str, Any]


def write_kernels(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    """Writes one table per question; returns the files.

    Raises:
        ValueError: no measurement was finished.
    """
    writers = {None: _blocks, PART: write_deltas, nf4.PART: _nf4}
    files: list[Path] = []
    for part, write in writers.items():
        own = [r for r in records if r["run"]["settings"].get("part") == part]
        if any(r["status"] == "done" for r in own):
            files += write(own, folder, model)
    if not files:
        measured(records, model)  # says that none was finished
    return files


def _nf4(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    done, made = measured(records, model)
    run = done[0]["run"]
    s = run["settings"]
    kind = f"{s['dtype']}, " if "dtype" in s else ""
    note = f"{run['machine']}; {kind}medians of {s['rounds']} interleaved rounds x {len(done)} seed(s)"
    rows = _over_seeds([r["result"][nf4.PART] for r in done])
    return nf4.write_nf4(_table, rows, ". ".join([note, *made]), done, folder)


def _blocks(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    done, made = measured(records, model)
    run = done[0]["run"]
    s = run["settings"]
    kind = f"{s['dtype']}, " if "dtype" in s else ""
    note = (
        f"{run['machine']}; {kind}matrix {s['matrix'][0]} x {s['matrix'][1]} ({model}'s V projection), {s['tokens']:,} tokens; "
        f"medians of {s['rounds']} interleaved rounds x {len(done)} seed(s)"
    )
    note = ". ".join([note, *made])
    found = {part: _over_seeds([r["result"][part] for r in done]) for part in done[0]["result"]}
    return [
        *_gradient(found["gradient"], note).of(done).write(folder, "gradient"),
        *_projection(found["projection"], note).of(done).write(folder, "projection"),
        *_storage(found["storage"], run["machine"], s["tokens"], made).of(done).write(folder, "storage"),
        *_update(found["update"], note).of(done).write(folder, "update"),
        *_scores(found["scores"], note).of(done).write(folder, "scores"),
    ]


def _over_seeds(tables: Sequence[list[Row]]) -> list[Row]:
    """Rows at the same place: medians of fractions, the first seed's value of everything that is counted or named."""
    return [
        {k: statistics.median(r[k] for r in same) if isinstance(v, float) else v for k, v in same[0].items()}
        for same in zip(*tables)
    ]


def _table(title: str, columns: dict[str, tuple[str, str]], rows: list[Row], notes: list[str]) -> Table:
    """A table of the named fields, each with its heading and format."""

    def cell(value: Any, form: str) -> Cell:
        return value if isinstance(value, str) or value is None else format(value, form)

    cells = [[cell(row[name], form) for name, (_, form) in columns.items()] for row in rows]
    return Table(title, [heading for heading, _ in columns.values()], cells, notes, rows)


def _gradient(rows: list[Row], note: str) -> Table:
    columns = {
        "side": ("block side", "d"), "blocks": ("blocks", "d"), "distinct_columns": ("distinct columns", "d"),
        "way": ("way", ""), "ms": ("ms", ".2f"), "dense_ms": ("dense gradient, ms", ".2f"),
        "to_flop_share": ("x its FLOP share", ".2f"),
    }  # fmt: skip
    notes = [
        note,
        "x its FLOP share: time over the dense gradient's time times the blocks' share of the matrix; 1 is ideal",
    ]
    return _table("Gradient of the blocks", columns, rows, notes)


def _projection(rows: list[Row], note: str) -> Table:
    printed = {
        r["block_size"]: r["projection_pct_of_forward"]
        for r in papers.published("smt_appendix_i_projection").to_dict("records")
    }
    data = [{**row, "paper_pct": printed.get(row["side"])} for row in rows]
    columns = {
        "side": ("block side", "d"), "blocks": ("blocks", "d"), "forward_ms": ("forward, ms", ".2f"),
        "loop_ms": ("loop over blocks, ms", ".3f"), "loop_pct": ("% of forward", ".2f"),
        "ours_ms": ("here, ms", ".3f"), "ours_pct": ("% of forward, here", ".2f"), "paper_pct": ("paper, % of forward", "g"),
    }  # fmt: skip
    notes = [
        note,
        "writing the blocks (2.1 % of the matrix) into the weight: block after block, as the paper's code does in every "
        "forward pass, and as done here, once per optimizer step",
    ]  # fmt: skip
    return _table("Appendix I: projection of blocks into the weight", columns, data, notes)


def _storage(rows: list[Row], machine: str, tokens: int, made: list[str]) -> Table:
    printed = {
        "full matrix": ("full dense",),
        "dense block": ("dense block storage",),
        "COO": ("sparse COO indices", "sparse COO values"),
    }
    figure = {r["tensor"]: r["memory_mib"] for r in papers.published("smt_figure11_memory").to_dict("records")}
    data = [
        {
            **r,
            "mib": r["bytes"] / 2**20,
            "paper_mib": sum(figure[n] for n in names) if (names := printed.get(r["format"])) else None,
        }
        for r in rows
    ]
    columns = {
        "format": ("format", ""), "mib": ("MiB", ".2f"), "paper_mib": ("paper, MiB", ".2f"),
        "to_dense_block": ("x dense block", ".2f"), "product_ms": ("product, ms", ".1f"),
    }  # fmt: skip
    whole = sum(r["mib"] for r in data if r["paper_mib"] is not None)
    notes = [
        f"{machine}; a 4096 x 4096 matrix whose corner of 397 x 2113 is filled (figure 10), float32, indices int64; product with "
        f"{tokens:,} columns",
        f"the three formats of figure 11 together: {whole:.2f} MiB (printed: {sum(figure.values()):.2f})",
        "COO stores two 8-byte indices for each 4-byte number, hence five times; CSR with one index a number and BSR with one a "
        "block do not",
        *made,
    ]
    return _table("Appendix G: formats of a sparse matrix", columns, data, notes)


def _update(rows: list[Row], note: str) -> Table:
    columns = {
        "weights": ("weights", ""), "kind": ("blocks are", ""), "block_bytes": ("bytes of the copy", ",d"),
        "adam_bytes": ("bytes of Adam", ",d"), "update_ms": ("update, ms", ".2f"), "kept_pct": ("updates kept, %", ".1f"),
        "verdict": ("numbers", ""),
    }  # fmt: skip
    data = filled([{**row, "verdict": _verdict(row)} for row in rows])
    notes = [
        note,
        "blocks hold 10 % of the matrix; updates kept: how far the trained numbers went in 100 steps of AdamW at rate 1e-5 under "
        "a constant gradient, of the way that rate and steps give",
        "numbers: whether one step at rate 0.05 moved every number by it, to within the weights' rounding. Decision: a copy in "
        "float32, because bfloat16 in place loses small updates and the fused kernel is wrong on strided views on a CPU",
    ]
    return _table("Blocks as a copy or in place", columns, data, notes)


def _verdict(row: Row) -> str:
    if row.get("refused"):
        return f"refused: {row['refused']}"
    return "right" if row["right"] else "WRONG"


def _scores(rows: list[Row], note: str) -> Table:
    columns = {
        "side": ("block side", "d"), "pooled_ms": ("pooled, ms", ".2f"), "dense_ms": ("dense gradient, ms", ".2f"),
        "times_faster": ("times faster", ".1f"), "pooled_error": ("error, pooled", ".1e"), "dense_error": ("error, dense", ".1e"),
    }  # fmt: skip
    notes = [note, "error: largest difference from a float64 computation, relative to the largest score"]
    return _table("Block scores of mean_abs without the weight gradient", columns, rows, notes)

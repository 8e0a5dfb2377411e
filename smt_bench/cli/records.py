"""The commands `compare` and `records`: two results folders side by side, and records for other tools."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from smt_bench.cli.options import Json, Results, say, show
from smt_bench.cli.values import check_results

SHOWN = 20  # questions that are named one by one


def compare(
    first: Annotated[Path, typer.Argument(help="Results folder.")],
    second: Annotated[Path, typer.Argument(help="Results folder.")],
    as_json: Json = False,
) -> None:
    """Compares the answers of two results folders, question by question, whatever machines gave them.

    Exit code 0: every question is answered in both, bit by bit alike or within the tolerances of `check record`; 1: not.
    """
    from smt_bench.questions.compare import DIFFERS, EQUIVALENT, IDENTICAL, MEASURED, MISSING, pairs
    from smt_bench.records.store import Store

    found = list(pairs(Store(check_results(first)), Store(check_results(second))))
    if not found:
        raise ValueError(f"neither {first} nor {second} holds a record: nothing was compared")
    counts = Counter(pair.outcome for pair in found)
    if as_json:
        print(json.dumps([asdict(pair) for pair in found], indent=1))
    else:
        for outcome in (DIFFERS, MISSING, EQUIVALENT, MEASURED):
            own = [pair for pair in found if pair.outcome == outcome]
            for pair in own[:SHOWN]:
                show(f"{outcome}: {next(filter(None, pair.keys))} {pair.what}: {pair.told}")
            if len(own) > SHOWN:
                show(f"{outcome}: {len(own) - SHOWN:,} more (all with --json)")
        show(", ".join(f"{counts[o]:,} {o}" for o in (IDENTICAL, EQUIVALENT, DIFFERS, MISSING, MEASURED) if counts[o]))
    if counts[DIFFERS] or counts[MISSING]:
        raise typer.Exit(1)


def records(
    file: Annotated[
        Path, typer.Argument(help="New file: NAME.parquet, one row per run; NAME.jsonl, all of every record.")
    ],
    results: Results = Path("results"),
) -> None:
    """Writes all records into one file for other tools."""
    from smt_bench.machine.files import write_whole
    from smt_bench.records.flat import columns, row
    from smt_bench.records.store import Store

    if file.suffix not in (".parquet", ".jsonl"):
        raise ValueError(f"{file}: choose a name that ends in .parquet or .jsonl")
    store = Store(check_results(results))
    keys = store.keys()
    if not keys:
        raise ValueError(f"{results} holds no records: `run` makes some")
    if file.suffix == ".jsonl":
        lines = ((json.dumps(found[0]) + "\n").encode() for key in keys if (found := store.records([key])))
        write_whole(file, lambda to: to.writelines(lines))
    else:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        table = pa.table(columns(store.mapped(keys, row)))
        write_whole(file, lambda to: parquet.write_table(table, to))
    say(f"wrote {file} ({len(keys):,} records)")

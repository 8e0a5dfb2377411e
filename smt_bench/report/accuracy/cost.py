"""What the runs of an accuracy table cost: adapter, merging, speed merged and not, and memory by phase; from their records."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from smt_bench.evidence.cells import Cells, groups
from smt_bench.evidence.words import percent, title
from smt_bench.records.store import Record
from smt_bench.report import notes
from smt_bench.report.table import Cell, Table

PHASES = ("load", "warmup", "attach", "tuning", "evaluation")
GPU, PROCESS = "gpu0_peak", "process_peak"


def cost_table(records: Iterable[Record] | Cells, model: str) -> Table | None:
    """One row per cell, medians over its runs; None where no record has a speed.

    Raises:
        ValueError: no records, or records that no table may compare.
    """
    found = groups(records)
    if not any(r.get("pace") for g in found for r in g.done):
        return None
    gpu = any(name.endswith(GPU) for g in found for r in g.done for name in r.get("memory_bytes", {}))
    device = GPU if gpu else PROCESS
    columns: dict[str, Callable[[Record], float | None]] = {
        "adapter_bytes": lambda r: (r.get("adapter") or {}).get("bytes"),
        "merge_seconds": lambda r: r["seconds"].get("merge") if r.get("adapter") else None,
        "tokens_per_second_unmerged": lambda r: (r.get("pace") or {}).get("unmerged"),
        "tokens_per_second_merged": lambda r: (r.get("pace") or {}).get("merged"),
        **{f"{phase}_peak_bytes": _peak(f"{phase}_{device}") for phase in PHASES},
    }
    rows: list[list[Cell]] = []
    data: list[dict[str, Cell]] = []
    for group in found:
        if not group.done:
            continue
        values = {name: _median([read(r) for r in group.done]) for name, read in columns.items()}
        share = None if group.fraction_pct is None else percent(group.fraction_pct)
        head: dict[str, Cell] = {"method": group.method, "fraction_pct": group.fraction_pct, "n_seeds": len(group.done)}
        data.append({**head, **values, "keys": " ".join(r["key"] for r in group.done)})
        rows.append([title(group.method), share, str(len(group.done)), *(_text(n, v) for n, v in values.items())])
    shown = [i for i in range(3 + len(columns)) if i < 3 or any(row[i] is not None for row in rows)]
    names = ["method", "parameters", "seeds", "adapter, MB", "merging, s", "tokens/s unmerged", "tokens/s merged"]
    names += [f"{phase} peak, MB" for phase in PHASES]
    lines = [
        "Medians over runs. Adapter: what would be kept of a run, as a file (MB: 10^6 bytes). Merging: with the check that the "
        "merged model says the same. Tokens/s: a forward pass of 4 x 64 tokens as the run left the machine; `run speed` measures "
        "steps properly. Peak: the largest memory of "
        + ("the first GPU" if gpu else "the process, of all that it held")
        + " in a phase, blank where it could not be told apart.",
        *notes.losses(found),
        notes.provenance(found),
    ]
    return Table(
        f"Cost of the runs, {model}", [names[i] for i in shown], [[row[i] for i in shown] for row in rows], lines, data
    )


def _peak(name: str) -> Callable[[Record], float | None]:
    return lambda record: record.get("memory_bytes", {}).get(name)


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _text(name: str, value: float | None) -> str | None:
    if value is None:
        return None
    if name.endswith("bytes"):
        return f"{value / 1e6:,.2f}"
    return f"{value:,.2f}" if name.endswith("seconds") else f"{value:,.0f}"

"""From the records of `spiel-cost` to SpIEL's table 3, and verdicts on what the paper reads out of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smt_bench.evidence import published as papers
from smt_bench.evidence.words import title
from smt_bench.experiments.cost.spiel_cost.verdicts import ROWS, Values, memory_verdicts, time_verdicts
from smt_bench.experiments.cost.steps import setting_words
from smt_bench.measuring.account import Account
from smt_bench.records.store import Record
from smt_bench.report.measured import measured
from smt_bench.report.table import Cell, Table, filled

TABLE = "spiel_table3_memory_time"
NAMES = {"lora": "lora", "spiel": "spiel-ag", "spiel-ma": "spiel-ma"}  # here -> as printed
BASES = {"": "", "nf4": "q"}  # what the paper puts before the name of a method over such a base
MODELS = {"llama2-7b": "7B", "llama2-13b": "13B"}
UNJUDGED = "The paper's claims on this table are about whole weights: over a base of 4 bits none is judged"
MB = 1e6
Row = dict[str, Any]


def label(entry: dict[str, Any]) -> str:
    """An entry's name in messages and kept rows."""
    fraction = "" if entry["fraction"] is None else f"{100 * entry['fraction']:.4g} %"
    return " ".join(part for part in (entry["name"], fraction, entry["variant"]) if part)


def printed_as(row: Row, base: str = "") -> str | None:
    """What the paper's table calls a row of a measurement over a base; None for what it has not."""
    name = NAMES.get(row["name"])
    return None if name is None or row["variant"] else BASES[base] + name


def write_spiel_cost(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    """Writes the halves of the table that were measured; returns the files.

    Raises:
        ValueError: no measurement was finished.
    """
    of = {part: [r for r in records if r["run"]["settings"]["part"] == part] for part in ("memory", "time", "limit")}
    there = {part: found for part, found in of.items() if any(r["status"] == "done" for r in found)}
    if not there:
        measured(records, model)  # says so
    files: list[Path] = []
    limits = measured(there["limit"], model) if "limit" in there else ([], [])
    if "memory" in there or "limit" in there:
        found = measured(there["memory"], model) if "memory" in there else ([], [])
        files += _memory(found[0][-1:], limits[0][-1:], [*(found[1] or limits[1])], model).write(
            folder, "table3_memory"
        )
    if "time" in there:
        done, made = measured(there["time"], model)
        files += _time(done, limits[0][-1:], made, model).write(folder, "table3_time")
    return files


def _titles(rows: Sequence[Row], base: str) -> dict[str, Row]:
    """The rows of the table by their titles, each once; several fractions are told apart."""
    several = len({row["fraction"] for row in rows if row["fraction"] is not None}) > 1
    made: dict[str, Row] = {}
    for row in rows:
        name = BASES[base] + title(row["name"]) + (f", {row['variant']}" if row["variant"] else "")
        name += f", {100 * row['fraction']:.3g} %" if several and row["fraction"] is not None else ""
        made.setdefault(name, row)
    return made


def _by_title(record: Record, value: Callable[[Row], float | None]) -> Values:
    rows = record["result"]["rows"]
    titles = {(r["name"], r["variant"], r["fraction"]): name for name, r in _titles(rows, _base(record)).items()}
    found = {(titles[r["name"], r["variant"], r["fraction"]], bool(r["checkpointing"])): value(r) for r in rows}
    return {place: number for place, number in found.items() if number is not None}


def _base(record: Record) -> str:
    return str(record["run"]["settings"].get("base", ""))


def _tuning_peak(row: Row) -> float | None:
    return None if "account" not in row else float(Account.from_dict(row["account"]).peak("tuning").peak_bytes)


def _memory(memory: Sequence[Record], limit: Sequence[Record], made: list[str], model: str) -> Table:
    record = (*memory, *limit)[0]
    rows = record["result"]["rows"]
    peaks = _by_title(memory[0], _tuning_peak) if memory else {}
    limits = _by_title(limit[0], lambda r: r.get("limit_gib")) if limit else {}
    planned = {
        r["name"]: r for r in rows if "planned" in r and r["planned"] and not r["checkpointing"] and not r["variant"]
    }
    off = {
        name: abs(Account.from_dict(r["planned"]).peak("tuning").peak_bytes / (_tuning_peak(r) or 1.0) - 1)
        for name, r in planned.items()
    }
    verdicts = [UNJUDGED] if _base(record) else memory_verdicts(limits or peaks, "GiB" if limits else None)
    columns = {"peak": ({k: v / MB for k, v in peaks.items()}, "MB", ",.1f")} if peaks else {}
    if limits:
        columns["limit"] = (limits, "smallest limit, GiB", "g")
    notes = [
        *verdicts,
        *_setting(record),
        "peak: exact bytes of a step, every tensor counted; left of the slash without, right of it with activation "
        f"checkpointing. x {BASES[_base(record)]}LoRA: ratio to it",
        *_lost(rows),
        *([f"planned on fake tensors: within {100 * max(off.values()):.2g} % of what was counted"] if off else []),
        *made,
    ]
    heading = f"SpIEL table 3: memory of a training step, {model}"
    return _table(heading, [*memory, *limit], columns, "memory_gb", "GB", notes)


def _time(done: Sequence[Record], limit: Sequence[Record], made: list[str], model: str) -> Table:
    rows = done[0]["result"]["rows"]
    seeds = [_by_title(r, lambda row: statistics.mean(row["step_s"]) if "step_s" in row else None) for r in done]
    middle = [_by_title(r, lambda row: statistics.median(row["step_s"]) if "step_s" in row else None) for r in done]
    means = _over(seeds)
    limits = _by_title(limit[0], lambda r: r.get("step_s")) if limit else {}
    columns = {"mean": (means, "s, mean", ".3f"), "median": (_over(middle), "s, median", ".3f")}
    if limits:
        columns["limit"] = (limits, "s at the smallest limit", ".3f")
    s, beside = done[0]["run"]["settings"], BASES[_base(done[0])] + ROWS[0]
    notes = [
        *([UNJUDGED] if _base(done[0]) else time_verdicts(seeds)),
        *_setting(done[0]),
        f"{s['steps']} steps of every method, all in turns, x {len(done)} seed(s); left of the slash without, right of it with "
        f"activation checkpointing. The mean holds SpIEL's estimation steps and updates. x {beside}: ratio to its mean",
        *_lost(rows),
        *made,
    ]
    heading = f"SpIEL table 3: time of a training step, {model}"
    return _table(heading, [*done, *limit], columns, "step_time_s", "s", notes)


def _over(seeds: Sequence[Values]) -> Values:
    """Means over seeds of what all of them have."""
    shared = [place for place in seeds[0] if all(place in one for one in seeds)]
    return {place: statistics.mean(one[place] for one in seeds) for place in shared}


def _setting(record: Record) -> list[str]:
    s = record["run"]["settings"]
    lora = next((e for e in s["methods"] if e["name"] == "lora"), None)
    found = [
        f"{record['run']['machine']}; {s['precision']}{setting_words(s)}, batch {s['batch_size']} x {s['length']} random tokens; "
        "random weights. The paper: bf16, batches of 128 x at most 2,048, one A100: compare ratios",
    ]
    if lora is not None:
        share = f"{100 * lora['fraction']:.3g} %" if lora["fraction"] is not None else "a rank"
        found.append(
            f"LoRA and SpIEL train {share} of the numbers, on all linear layers of the blocks (rank 64 at LLaMA-7B's width); "
            f"LoRA's dropout is {lora['config']['dropout']:g}; SpIEL's deltas move every 20 steps after an estimation over 5"
        )
    if any(e["variant"] for e in s["methods"]):
        found.append("sampled: gradients at the deltas alone (appendix E) where methods/sampled.py has that for faster")
    return found


def _lost(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(f"{title(r['name'])}: not measured, {r['message']}" for r in rows if "message" in r))


def _table(
    heading: str,
    records: Sequence[Record],
    columns: dict[str, tuple[Values, str, str]],
    printed: str,
    unit: str,
    notes: list[str],
) -> Table:
    """One row per method, "without / with"; the paper's rows that were not measured have blanks.

    Args:
        heading: of the table.
        records: that the columns are of; the first has the rows.
        columns: name -> values, unit, format; the first is what ratios are of.
        printed: the printed table's column; that with checkpointing ends in "_checkpointing".
        unit: of the printed numbers.
        notes: below.
    """
    table = papers.published(TABLE)
    numbers = {
        (row["model"], row["method"]): (float(row[printed]), float(row[f"{printed}_checkpointing"]))
        for row in table.to_dict("records")
    }
    base, titles = _base(records[0]), _titles(records[0]["result"]["rows"], _base(records[0]))
    keys = " ".join(r["key"] for r in records)
    beside = BASES[base] + ROWS[0]  # whose ratios stand in the table
    there = {printed_as(row, base) for row in titles.values()}
    missing = [name for name in dict.fromkeys(table["method"]) if name not in there]
    cells: list[list[Cell]] = []
    data = []
    lead = next(iter(columns.values()))[0]
    for name, row in [*titles.items(), *((name, None) for name in missing)]:
        paper = name if row is None else printed_as(row, base)
        both = {what: [known.get((name, kind)) for kind in (False, True)] for what, (known, _, _) in columns.items()}
        mine = [lead.get((name, kind)) for kind in (False, True)]
        unit_of = [lead.get((beside, kind)) for kind in (False, True)]
        ratios = [a / b if a is not None and b is not None else None for a, b in zip(mine, unit_of)]
        line: list[Cell] = [name]
        line += [_pair(both[what], form) for what, (_, _, form) in columns.items()]
        line.append(_pair(ratios, ".2f"))
        values: Row = {
            "method": name if row is None else row["name"], "variant": "" if row is None else row["variant"],
            "fraction": None if row is None else row["fraction"], "printed_as": paper,
        }  # fmt: skip
        for what, pair in [*both.items(), ("to_lora", ratios)]:
            values |= {what: pair[0], f"{what}_checkpointing": pair[1]}
        for model, size in MODELS.items():
            theirs: Sequence[float | None] = numbers.get((model, paper or ""), (None, None))
            relative: Sequence[float | None] = [
                a / b if a is not None else None for a, b in zip(theirs, numbers[model, BASES[base] + "lora"])
            ]
            line += [_pair(theirs, "g"), _pair(relative, ".2f")]
            for what, printed_pair in ((f"paper_{size}", theirs), (f"paper_{size}_to_lora", relative)):
                values |= {what: printed_pair[0], f"{what}_checkpointing": printed_pair[1]}
        cells.append(line)
        data.append(values | {"source": "published" if row is None else "", "keys": "" if row is None else keys})
    header = ["method", *(words for _, words, _ in columns.values()), f"x {beside}"]
    for size in MODELS.values():
        header += [f"paper {size}, {unit}", f"paper {size}, x {beside}"]
    return Table(heading, header, cells, notes, filled(data))


def _pair(values: Sequence[float | None], form: str) -> str | None:
    """ "40 / 18"; None where there is neither."""
    if all(value is None for value in values):
        return None
    return " / ".join("" if value is None else format(value, form) for value in values)

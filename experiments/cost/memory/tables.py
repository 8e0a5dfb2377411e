"""From the record of `memory` to its tables and figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smt_bench.experiments.cost.memory.figure import memory_figure
from smt_bench.experiments.cost.speed.rows import full_title
from smt_bench.experiments.cost.steps import layers_note, setting_words
from smt_bench.measuring.account import CATEGORIES, Account
from smt_bench.records.store import Record
from smt_bench.report.measured import measured
from smt_bench.report.table import Table, filled

MB = 1e6
Row = dict[str, Any]
_PHASES = {"load": "loading", "warmup": "warm-up", "attach": "attaching", "tuning": "tuning"}


def write_memory(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    """Writes the table by category, that of SMT's activations, and the figure; returns the files.

    Raises:
        ValueError: no measurement was finished.
    """
    done, made = measured(records, model)
    record = done[-1]
    rows = memory_rows(record)
    notes = [*setting_notes(record), *made]
    caption = "\n".join(textwrap.fill(note, 78) for note in notes)
    return [
        *_memory(rows, record, model, notes).of([record]).write(folder, "memory"),
        *_activations(record, model, [notes[0], *made]).of([record]).write(folder, "activations"),
        *memory_figure(rows, folder, caption),
    ]


def memory_rows(record: Record) -> list[Row]:
    """One row per method, variant, checkpointing and stage: bytes by category at the stage's peak."""
    rows = []
    for found in record["result"]["rows"]:
        named = {
            "method": found["name"],
            "variant": found["variant"],
            "fraction": found["fraction"],
            "checkpointing": int(found["checkpointing"]),
        }
        if "account" not in found:
            rows.append({**named, "stage": None, "message": found["message"], **_blank()})
            continue
        account = Account.from_dict(found["account"])
        planned = None if found["planned"] is None else Account.from_dict(found["planned"])
        for stage in account.flops:
            peak = account.peak(stage)
            rows.append(
                {
                    **named,
                    "stage": stage,
                    "message": None,
                    "trainable_pct": 100 * found["trainable"] / found["total"],
                    **{category: peak.peak[category] for category in CATEGORIES},
                    "after_forward_saved": account.saved_activations(stage),
                    "peak": peak.peak_bytes,
                    "planned_peak": None if planned is None else planned.peak(stage).peak_bytes,
                    "peak_in": peak.phase,
                    "process_peak": found["peak_bytes"],
                }
                | _newer(found)
            )
    full = {r["checkpointing"]: r["peak"] for r in rows if r["method"] == "full"}
    for row in rows:
        base = full.get(row["checkpointing"])
        row["less_than_full_pct"] = 100 * (1 - row["peak"] / base) if base and row["peak"] else None
        if record["result"].get("whole"):
            row["all_layers_peak"] = _all_layers(row, record)
    return filled(rows)


def _newer(found: Row) -> Row:
    """What earlier records do not hold: the rule's bytes of states, and peaks by phase."""
    if "peaks" not in found:
        return {}
    return {"rule": found["rule_bytes"]} | {f"{phase}_peak": peak for phase, peak in found["peaks"].items()}


def _all_layers(row: Row, record: Record) -> float | None:
    """The peak with all layers, where fewer were measured: activations by layers, states by parameters, 4 bits by bytes."""
    of, run = record["result"].get("whole"), record["run"]["settings"]
    if not of or row["peak"] is None:
        return None
    states = sum(row[n] for n in ("parameters", "gradients", "optimizer_state", "master_copies", "method_state"))
    rest = row["logits_loss"] + row["temporaries"]
    weights, measured_weights = of.get("weights", (0, 0))  # where they do not grow as the parameters do
    made: float = (
        weights
        + of["parameters"] * (states - measured_weights)
        + of["layers"] / run["layers"] * row["saved_activations"]
        + rest
    )
    return made


def _blank() -> Row:
    names = ("trainable_pct", *CATEGORIES, "after_forward_saved", "peak", "planned_peak", "peak_in", "process_peak")
    return dict.fromkeys(names)


def setting_notes(record: Record) -> list[str]:
    """What was measured, where."""
    s = record["run"]["settings"]
    return [
        f"{record['run']['machine']}; {s['precision']}{setting_words(s)}, batch {s['batch_size']} x {s['length']} random tokens, "
        "loss on all, random weights; MB are 10^6 bytes",
        "bytes are exact: live storages, each counted once, at the moment of the step when most are alive",
        *layers_note(
            record,
            "weights, gradients and optimizer in proportion to all parameters, activations to the layers, the rest as it is",
        ),
    ]


def name_of(row: Row) -> str:
    """Method, variant and, where it has two, stage."""
    stage = ", warm-up" if row["stage"] == "warmup" else ""
    return full_title(row["method"], row["variant"]) + stage


def _memory(rows: list[Row], record: Record, model: str, notes: list[str]) -> Table:
    def mb(row: Row, *names: str) -> str | None:
        return None if row["peak"] is None else f"{sum(row[n] for n in names) / MB:,.1f}"

    cells = [
        [
            name_of(row),
            "yes" if row["checkpointing"] else "no",
            None if row["trainable_pct"] is None else f"{row['trainable_pct']:.2f}",
            mb(row, "parameters"),
            mb(row, "gradients"),
            mb(row, "optimizer_state", "master_copies"),
            mb(row, "saved_activations"),
            mb(row, "logits_loss"),
            mb(row, "method_state", "temporaries"),
            mb(row, "peak") or row["message"],
            mb(row, "planned_peak"),
            mb(row, "after_forward_saved"),
            None if row["less_than_full_pct"] is None else f"{row['less_than_full_pct']:.0f}",
            mb(row, "process_peak"),
        ]
        for row in rows
    ]
    header = [
        "method", "checkpointing", "trainable, %", "parameters", "gradients", "optimizer", "activations", "logits, loss", "other",
        "peak, MB", "planned, MB", "activations after forward", "less than full, %", "process peak, MB",
    ]  # fmt: skip
    named = {f"{phase}_peak": f"{what}, MB" for phase, what in _PHASES.items()} | {"rule": "states by rule, MB"}
    extra = [(name, heading) for name, heading in named.items() if any(r.get(name) is not None for r in rows)]
    extra += [("all_layers_peak", "peak, all layers, MB")] if record["result"].get("whole") else []
    for line, row in zip(cells, rows):
        line += [mb(row, name) if row.get(name) is not None else None for name, _ in extra]
    header += [heading for _, heading in extra]
    smt = [r for r in rows if r["method"] == "smt" and r["stage"] == "tuning" and r["variant"] == "frozen"]
    found = [
        f"SMT at {100 * r['fraction']:g} %, tuning, {'with' if r['checkpointing'] else 'without'} checkpointing: "
        f"{r['less_than_full_pct']:.0f} % less than full fine-tuning (the paper: 67 %, no setting stated)"
        for r in smt
        if r["less_than_full_pct"] is not None
    ]
    more = [
        "frozen: with a warm-up that only looks, so that nothing ever trains densely",
        "planned: the same step on fake tensors, as `plan` does it; what data choose (blocks, weights) is random there only",
        "process peak: of the whole process above what it had before the model, over two steps with SMT's warm-up before; what "
        "was freed may be counted again where the allocator kept it",
        *(
            ["loading, warm-up (with the choice that ends it) or attaching, tuning: the process peak of each by itself"]
            if any(r.get("load_peak") is not None for r in rows)
            else []
        ),
        *found,
    ]
    return Table(f"Memory of a training step: {model}", header, cells, [*notes, *more], rows)


def _activations(record: Record, model: str, notes: list[str]) -> Table:
    data = [
        {
            "method": r["name"],
            "variant": r["variant"],
            "checkpointing": int(r["checkpointing"]),
            "fraction": r["fraction"],
            **r["kept"],
        }
        for r in record["result"]["rows"]
        if r.get("kept")
    ]
    cells = [
        [
            full_title(r["method"], r["variant"]),
            f"{r['layers']} reading {r['inputs']} inputs",
            *(f"{r[n] / MB:,.3f}" for n in ("kept_bytes", "formula_bytes", "unshared_bytes", "views_bytes")),
        ]
        for r in data
        if not r["checkpointing"]
    ]
    header = [
        "method",
        "sparse layers",
        "kept, MB",
        "columns x tokens x size, MB",
        "a copy per layer, MB",
        "views of inputs, MB",
    ]
    more = [
        "kept: measured at the layers; columns: distinct columns of blocks, one copy for all layers that read an input",
        "a copy per layer: without sharing; views of inputs: what the paper's code holds, since a view keeps all of the input",
    ]
    columns = ["method", "variant", "checkpointing", "fraction", "kept_bytes", "formula_bytes"]
    return Table(f"Inputs kept by SMT's sparse layers: {model}", header, cells, [*notes, *more], data, columns)

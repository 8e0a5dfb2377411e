"""From the records of `speed` to its tables and figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smt_bench.evidence import published as papers
from smt_bench.experiments.cost.speed.decomposition import decomposition
from smt_bench.experiments.cost.speed.figure import parts_figure
from smt_bench.experiments.cost.speed.rows import Row, full_title, pick, speed_rows
from smt_bench.experiments.cost.steps import layers_note, setting_words
from smt_bench.records.store import Record
from smt_bench.report.measured import measured
from smt_bench.report.table import Table, filled

_SAME = {"method": "name", "variant": "variant", "fraction": "fraction"}  # columns of a row, parts of an entry


def write_speed(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    """Writes table 1, `speed.csv`, the decomposition and the figure; returns the files, the main table first."""
    done, made = measured(records, model)
    notes = [*setting_notes(done), *made]
    rows = speed_rows(done)
    both = pick(rows, "smt", "forward_backward")
    lowest, layers = _lowest_layer(done)
    caption = "\n".join(textwrap.fill(note, 78) for note in notes)
    return [
        *table1(rows, done, model, notes).of(done).write(folder, "table1"),
        *parts(rows, model, notes).of(done).write(folder, "speed"),
        *decomposition(lowest / layers if both else None, both["flop_limit_ratio"] if both else None)
        .of(done)
        .write(folder, "decomposition"),
        *parts_figure(rows, folder, caption),
    ]


def _lowest_layer(records: Sequence[Record]) -> tuple[int, int]:
    """The lowest layer with a block of SMT, and the number of layers; of the first seed."""
    result = records[0]["result"]
    blocks: dict[str, Any] = next(
        (d["blocks"] for name, d in result["described"].items() if name.split()[0] == "smt"), {}
    )
    found = [int(part) for name in blocks for part in name.split(".") if part.isdigit()]
    return min(found, default=0), result["layers"]


def setting_notes(records: Sequence[Record]) -> list[str]:
    """What was measured, where, and how often."""
    run, result = records[0]["run"], records[0]["result"]
    s = run["settings"]
    return [
        f"{run['machine']}; {s['precision']}{setting_words(s)}, batch {s['batch_size']} x {s['length']} random tokens, "
        f"loss on all of them, {'with' if s['checkpointing'] else 'without'} checkpointing; random weights; fused AdamW",
        f"medians of {s['rounds']} rounds in which every method takes one step, x {len(records)} seed(s); "
        f"{result['tokens']:,} tokens a step",
        *layers_note(
            records[0],
            "a step times the ratio of the parameters outside the input embedding, of which products are made",
        ),
    ]


def table1(rows: Sequence[Row], records: Sequence[Record], model: str, setting: Sequence[str]) -> Table:
    """Time of a step, its ratio to full fine-tuning, and what FLOPs allow."""
    printed = papers.published("smt_table1_speed").set_index("method")["speedup"].to_dict()
    cells, data = [], []
    roofline = _roofline(records[0])
    whole = records[0]["result"].get("whole")
    messages = records[0]["result"].get("messages", {})
    for entry in records[0]["result"]["entries"]:
        mine = [r for r in rows if all(r[k] == entry[v] for k, v in _SAME.items())]
        named = {
            "method": entry["name"],
            "variant": entry["variant"],
            "trainable_pct": 100 * entry["trainable"] / entry["total"],
        }
        if not mine:
            why = messages.get(entry["label"], "not measured")
            data.append({**named, "message": why})
            cells.append([full_title(entry["name"], entry["variant"]), f"{named['trainable_pct']:.2f}", why])
            continue
        step, both = (next(r for r in mine if r["phase"] == phase) for phase in ("step", "forward_backward"))
        amortised: Row = next((r for r in mine if r["phase"] == "step_amortised"), {"ratio_to_full": None})
        reached = both["ratio_to_full"] / both["flop_limit_ratio"] if both["ratio_to_full"] else None
        other = entry["variant"] or records[0]["run"]["settings"].get("base")  # what the paper did not measure
        paper = None if other else printed.get(entry["name"])
        row = {
            **named,
            "step_ms": step["step_ms"],
            "tokens_per_s": step["tokens_per_s"],
            "ratio_to_full": step["ratio_to_full"],
            "ratio_amortised": amortised["ratio_to_full"],
            "forward_backward_ratio": both["ratio_to_full"],
            "flop_limit_ratio": both["flop_limit_ratio"],
            "reached_of_limit": reached,
            "paper_speedup": paper,
        }
        if roofline:
            row["roofline_ms"], row["roofline_ratio"] = roofline.get(entry["label"], (None, None))
        if whole:
            row["all_layers_step_ms"] = whole["products"] * step["step_ms"]
        data.append(row)
        cells.append(
            [
                full_title(entry["name"], entry["variant"]),
                f"{row['trainable_pct']:.2f}",
                f"{row['step_ms']:,.0f}",
                f"{row['tokens_per_s']:,.0f}",
                _number(row["ratio_to_full"], ".2f"),
                _number(row["ratio_amortised"], ".2f"),
                _number(row["forward_backward_ratio"], ".2f"),
                _number(row["flop_limit_ratio"], ".2f"),
                _number(paper, ".1f"),
                *([_number(row["roofline_ratio"], ".2f")] if roofline else []),
                *([f"{row['all_layers_step_ms']:,.0f}"] if whole else []),
            ]
        )
    notes = [*setting, *_findings(rows, records)]
    header = [
        "method", "trainable, %", "step, ms", "tokens/s", "x full", "x full, amortised",
        "forward + backward, x full", "FLOP limit of that", "paper, x full",
    ]  # fmt: skip
    header += ["roofline, x full"] * bool(roofline) + ["step of all layers, ms"] * bool(whole)
    cells = [line + [None] * (len(header) - len(line)) for line in cells]
    data = filled(data)
    return Table(f"Table 1: time of a training step, {model}", header, cells, notes, data)


def _roofline(record: Record) -> dict[str, tuple[float, float | None]]:
    """By label, the step's ms under the device's measured rates, and full fine-tuning's over it; empty for older records."""
    found: dict[str, float] = record["result"].get("roofline", {}).get("step_ms", {})
    return {label: (ms, found["full"] / ms if "full" in found else None) for label, ms in found.items()}


def _number(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)


def _findings(rows: Sequence[Row], records: Sequence[Record]) -> list[str]:
    found = ["x full: full fine-tuning's time over the method's. All on one device, no offloading on either side"]
    result = records[0]["result"]
    if reached := result.get("roofline", {}).get("rates"):
        found.append(
            f"roofline, x full: what the operations of a step allow at the rates this device reached just before: "
            f"{reached['bf16'] / 1e12:.3g} TFLOP/s bf16, {reached['fp32'] / 1e12:.3g} fp32, {reached['bandwidth'] / 1e9:.3g} GB/s"
        )
    found += [f"{name}: not measured, {why}" for name, why in result.get("messages", {}).items()]
    found += [f"{entry['label']}: {entry['note']}" for entry in result["entries"] if "note" in entry]
    smt = pick(rows, "smt", "step")
    if smt is None:
        return found
    others = [r for r in rows if r["phase"] == "step" and r["method"] not in ("smt", "full", "frozen model")]
    found += [
        f"SMT's step is {r['step_ms'] / smt['step_ms']:.2f} times faster than that of {full_title(r['method'], r['variant'])}"
        for r in others
        if r["fraction"] == smt["fraction"]
    ]
    if any(r["variant"] for r in others):
        found.append("no dropout: the paper's LoRA and DoRA have dropout 0.05, whose masks are slow to draw on a CPU")
    lowest, layers = _lowest_layer(records)
    found.append(f"SMT's lowest block is in layer {lowest} of 0 to {layers - 1}; no backward pass runs below it")
    frozen, plain = pick(rows, "smt", "frozen_warmup_step"), pick(rows, "frozen model", "step")
    if frozen is not None and plain is not None:
        more = 100 * (frozen["step_ms"] / plain["step_ms"] - 1)
        found.append(
            f"a step of the frozen warm-up, with scores, takes {more:+.1f} % over one forward and backward pass of the frozen "
            "model to the same depth"
        )
    s = records[0]["run"]["settings"]
    config = next(e["config"] for e in s["methods"] if e["name"] == "smt")
    found.append(
        f"amortised: SMT with its {config['warmup_steps']} warm-up steps (training: {config['warmup_trains']}) and selection, "
        f"SpIEL with its estimation steps, over the {s['run_steps']:,} steps of the paper's commonsense run"
    )
    return found


def parts(rows: Sequence[Row], model: str, setting: Sequence[str]) -> Table:
    """Every phase of every method; the CSV holds `speed_rows`."""
    cells = [
        [
            full_title(r["method"], r["variant"]),
            None if r["fraction"] is None else f"{100 * r['fraction']:g}",
            r["phase"].replace("_", " "),
            f"{r['step_ms']:,.1f}",
            None if r["tokens_per_s"] is None else f"{r['tokens_per_s']:,.0f}",
            None if r["ratio_to_full"] is None else f"{r['ratio_to_full']:.2f}",
            None if r["flop_limit_ratio"] is None else f"{r['flop_limit_ratio']:.2f}",
            r["repeats"],
        ]
        for r in rows
    ]
    header = ["method", "fraction, %", "phase", "ms", "tokens/s", "x full", "FLOP limit", "repeats"]
    return Table(f"Time by phase: {model}", header, cells, list(setting), rows)

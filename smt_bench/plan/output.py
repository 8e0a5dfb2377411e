"""A plan as terminal table, Markdown, CSV and figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smt_bench.data import families
from smt_bench.evidence.words import title
from smt_bench.machine.borders import terminal
from smt_bench.measuring.account import CATEGORIES
from smt_bench.models.build import whole_model
from smt_bench.models.quantized import WORDS
from smt_bench.plan.calibrate import Calibration
from smt_bench.plan.dry import Workload
from smt_bench.plan.gpu.hardware import CONTEXT, GIB, HOST_SOURCE, TIGHT
from smt_bench.plan.row import Row, Target
from smt_bench.report.table import Table

GB = 1e9
_FOR_FILES = ("forward, TFLOP", "backward, TFLOP")
HEADER = (
    "method", "asked, %", "capacity", "trainable, %", "paper, %", "GB/GPU", "peak at", "tuning, GB/GPU", "fits", "how",
    "forward, TFLOP", "backward, TFLOP", "step, s", "run, h", "GPU h", "disk, GB", "smallest",
)  # fmt: skip


def _text(value: float | None, form: str, scale: float = 1.0) -> str:
    return "" if value is None else format(value / scale, form)


def cells(row: Row) -> list[str]:
    """A row to read, as `HEADER`."""
    fraction = row.run.method.fraction
    name = title(row.run.method.name) + row.over
    family = families.known(row.run.data.family)
    if family is not None and (mixture := family.mixture_of(row.run.data.train)) is not None:
        name += f", {mixture.title}"
    asked = _text(fraction, "g", 0.01)
    if row.capacity is None:
        return [name, asked, "impossible", *[""] * (len(HEADER) - 3)]
    tuning = row.times.get("tuning")
    return [
        name,
        asked,
        f"{row.capacity.units:,} {row.capacity.unit}",
        _text(row.capacity.fraction, ".3f", 0.01),
        _text(row.published_pct, "g"),
        _text(row.peak[0], ".1f", GB),
        row.peak[1] or "",
        _text(row.peaks["tuning"][0] if row.peaks else None, ".1f", GB),
        row.fits or "refused",
        row.how if row.spreads else "",
        _text(row.flops("forward"), ".3g", 1e12),
        _text(row.flops("backward"), ".3g", 1e12),
        _text(tuning.total if tuning else None, ".3g"),
        _text(row.seconds, ".3g", 3600),
        _text(row.gpu_hours, ".3g"),
        _text(row.disk, ".1f", GB),
        row.smallest or "",
    ]


def notes(rows: Sequence[Row], workload: Workload, target: Target, calibration: Calibration | None) -> list[str]:
    """What a reader has to know."""
    gpu, per_step = target.gpu, workload.batch * target.gpus * target.pieces
    parts = f" in {target.pieces} micro-batches, FLOPs of one of them" if target.pieces > 1 else ""
    kind = f"{workload.precision}{', optimizer in bf16' if workload.optimizer_dtype == 'bf16' else ''}"
    small = list(dict.fromkeys(r.run.method.name for r in rows if r.run.train.base))
    bits = f"; {WORDS}, under {', '.join(small)}" if small else ""
    found = [
        f"{target.gpus} x {gpu.name} ({gpu.memory / GIB:.0f} GiB, {gpu.bf16 / 1e12:g} TFLOP/s bf16, {gpu.fp32 / 1e12:g} fp32, "
        f"{gpu.bandwidth / GB:g} GB/s; {gpu.source}); data-parallel",
        f"per step {per_step} x {workload.length} tokens{parts}, all with a label; {kind}, "
        f"{'with' if workload.checkpointing else 'no'} gradient checkpointing, {workload.attention} attention{bits}",
        "GB are 10^9 bytes per GPU at the worst moment of any phase, counted while one step of the real model and method ran on "
        "fake tensors; where blocks are chosen by gradients, for a choice scattered at random",
        f"fits: OK up to {TIGHT:.0%} of the memory left by {CONTEXT / GIB:g} GiB of CUDA context, tight up to all of it",
        "disk: checkpoints while a run lasts: two whole states, a third one being written, and the weights that a warm-up moved",
        "how: the first that fits of whole copies, ZeRO-2, ZeRO-3, then the same with the optimizer on the host, unless one was "
        "asked for, for warm-up and tuning apart; smallest: the whole run without offload",
        f"times: a roofline per operation at {target.efficiency} ({_measured(calibration, target)}), links and host at "
        f"theirs ({HOST_SOURCE}), nothing overlapped; evaluation not included",
        f"steps: {', '.join(sorted({f'{r.run.train.steps:,}' for r in rows}))}, from the recipe ({_epochs(rows)})",
    ]
    for refusal in dict.fromkeys(f"{r.run.method.name}: {r.refusal}" for r in rows if r.refusal):
        found.append(f"impossible: {refusal}")
    if workload.layers is not None:
        whole = whole_model(workload.model, workload.layers)
        found.append(
            f"{workload.layers} of {whole.layers} layers; extrapolated to {whole.layers}: step times {whole.products:.3f}, the "
            "ratio of the parameters outside the input embedding"
        )
    hosts = max((r.host or 0 for r in rows), default=0)
    if hosts:
        found.append(f"offload needs up to {hosts / GB:.0f} GB of main memory")
    disks = [r.disk for r in rows if r.disk]
    if disks:
        found.append(
            f"disk: {max(disks) / GB:,.0f} GB one run at a time, {sum(disks) / GB:,.0f} GB for all runs at once"
        )
    hours = [r.gpu_hours for r in rows if r.gpu_hours is not None]
    if hours:
        found.append(f"all {len(hours)} runs that train: {sum(hours) / target.gpus:.3g} h, {sum(hours):.3g} GPU hours")
    return found


def _epochs(rows: Sequence[Row]) -> str:
    """Where steps that are not a recipe's own come from."""
    family = families.known(rows[0].run.data.family) if rows else None
    if family is not None and family.mixtures:
        sizes = ", ".join(f"{one.size:,}" for one in family.mixtures)
        return f"the SpIEL paper's from 2 epochs over {sizes} records"
    return "the paper's from 3 epochs over the published 170,420 or 9,919 records"


def _measured(found: Calibration | None, target: Target) -> str:
    if found is not None:
        return f"measured here: {found.device}, {found.flops / 1e12:.3g} TFLOP/s, {found.bandwidth / GB:.3g} GB/s"
    if target.asked is not None:
        return "as asked for"
    seen = target.gpu.measured
    if seen is None:
        return "assumed; --calibrate measures it on this machine"
    return f"measured: {seen.bf16 / 1e12:.3g} TFLOP/s, {seen.bandwidth / GB:.3g} GB/s; {seen.source}"


def table(rows: Sequence[Row], heading: str, notes: Sequence[str]) -> Table:
    """The plan."""
    data = []
    for row in rows:
        values = row.to_dict()
        values.pop("memory_bytes")
        layouts = values.pop("layout") or {}
        values |= {f"layout_{stage}": layouts.get(stage) for stage in ("warmup", "tuning")}
        peak = row.peaks.get("tuning", (None, None, {}))[2]
        data.append(values | {f"tuning_peak_{category}": peak.get(category) for category in CATEGORIES})
    return Table(heading, HEADER, [cells(row) for row in rows], notes, data)


def memory_table(rows: Sequence[Row]) -> Table:
    """Bytes by category at each phase's peak, per GPU."""
    short = {"logits_loss": "logits, loss", "saved_activations": "activations", "master_copies": "masters"}
    header = [
        "method",
        "asked, %",
        "stage",
        "phase",
        *(short.get(c, c.replace("_", " ")) for c in CATEGORIES),
        "total, GB",
    ]
    lines: list[list[Any]] = []
    data = []
    for row in rows:
        for stage, phases in row.phases.items():
            for phase, found in phases.items():
                fraction = _text(row.run.method.fraction, "g", 0.01)
                lines.append(
                    [title(row.run.method.name), fraction, stage, phase]
                    + [f"{found[c] / GB:.2f}" for c in (*CATEGORIES, "total")]
                )
                data.append(
                    {"method": row.run.method.name, "fraction": row.run.method.fraction, "stage": stage, "phase": phase}
                    | found
                )
    return Table("Memory by category at the peak of each phase, GB per GPU", header, lines, (), data)


def show(table: Table) -> None:
    """On the terminal; a narrow one gets fewer columns (the files have all)."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Rich

    console = Console()
    if not console.is_terminal:
        console = Console(width=220)
    # In the order in which they may go.
    spare = [*_FOR_FILES, "run, h", "asked, %", "how", "paper, %", "peak at", "disk, GB"]
    columns = [i for i, _ in enumerate(table.header) if any(row[i] for row in table.rows)]
    widths = {i: max(len(str(row[i])) for row in (table.header, *table.rows)) + 2 for i in columns}
    for name in spare:
        i = HEADER.index(name)
        if i in columns and (name in _FOR_FILES or sum(widths[c] for c in columns) > console.width):
            columns.remove(i)
    shown = Rich(
        title=escape(terminal(table.title)), title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for i in columns:
        left = table.header[i] in ("method", "capacity", "peak at", "fits", "how", "smallest")
        shown.add_column(table.header[i], justify="left" if left else "right", no_wrap=True)
    colours = {"OK": "green", "tight": "yellow", "no": "red", "refused": "red", "impossible": "red"}
    for row in table.rows:
        shown.add_row(*(f"[{colours[c]}]{c}[/]" if (c := str(row[i])) in colours else c for i in columns))
    console.print(shown)
    for note in table.notes:
        console.print(terminal(f"- {note}"), style="dim", highlight=False, markup=False)


def write(rows: Sequence[Row], plan: Table, folder: Path, target: Target) -> list[Path]:
    """Markdown, CSV and figure; the paths, the main table first."""
    from smt_bench.plan.figure import draw

    return [*plan.write(folder, "plan"), *memory_table(rows).write(folder, "memory"), *draw(rows, folder, target)]

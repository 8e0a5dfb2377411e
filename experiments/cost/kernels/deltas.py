"""SpIEL's appendix E: the gradient at the deltas alone (equation 16) beside gathering it from the dense one, and the rule.

Shape legend: T tokens, O outputs and I inputs of a matrix, D places in it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from smt_bench.experiments.cost.kernels.pieces import Row, medians
from smt_bench.machine.watch import Watcher
from smt_bench.methods import sampled
from smt_bench.methods.base import Shapes
from smt_bench.methods.modules import targeted
from smt_bench.methods.spiel.config import ScheduleConfig
from smt_bench.records.rows import Rows
from smt_bench.records.store import Record
from smt_bench.report.measured import measured
from smt_bench.report.table import Table

PART = "deltas"
DENSITIES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
FEWER = 8  # times: a short batch beside the usual one


def settings(shapes: Shapes, blocks: dict[str, Any]) -> dict[str, Any]:
    """Matrices, densities and tokens; rounds and the type as for blocks.

    Args:
        shapes: of the model's parameters.
        blocks: the settings of the measurement of blocks.
    """
    matrices = sorted({shape for shape in targeted(shapes, ScheduleConfig().targets).values() if len(shape) == 2})
    return {
        "part": PART,
        "matrices": [list(shape) for shape in matrices],
        "densities": list(DENSITIES),
        "tokens": sorted({max(1, blocks["tokens"] // FEWER), blocks["tokens"]}),
        **{name: blocks[name] for name in ("rounds", "dtype") if name in blocks},
    }


def measure(s: dict[str, Any], device: torch.device, dtype: torch.dtype, watch: Watcher, rows: Rows) -> dict[str, Any]:
    """A row per matrix, number of tokens and density; all ways of a matrix take turns."""
    cases = [(tuple(shape), tokens) for shape in s["matrices"] for tokens in s["tokens"]]
    found: list[Row] = []
    with torch.no_grad():
        for done, ((outputs, inputs), tokens) in enumerate(cases):
            name = f"{outputs} x {inputs}, {tokens} tokens"
            watch("kernels", done, len(cases), name)
            made = rows.get(name)
            if made is None:
                made = _case(outputs, inputs, tokens, s["densities"], s["rounds"], device, dtype)
                rows.put({name: made})
            found += made
    return {PART: found}


def _case(
    outputs: int, inputs: int, tokens: int, densities: Sequence[float], rounds: int, device: torch.device, dtype: torch.dtype
) -> list[Row]:  # fmt: skip
    dy_TO, x_TI = (torch.randn(tokens, n, device=device).to(dtype) for n in (outputs, inputs))
    exact_n = (dy_TO.double().t() @ x_TI.double()).view(-1)
    places = {
        density: torch.randperm(len(exact_n), device=device)[: max(1, round(density * len(exact_n)))].int()
        for density in densities
    }
    alone = sampled.fused if device.type == "cuda" else sampled.by_row
    ways: dict[str, Callable[..., torch.Tensor]] = {"gathered": sampled.gathered, "alone": alone}
    pieces: dict[str, Callable[[], Any]] = {
        f"{name} {density}": lambda way=way, at_D=at_D: way(dy_TO, x_TI, at_D)  # type: ignore[misc]
        for density, at_D in places.items()
        for name, way in ways.items()
    }
    taken, made = medians(pieces, rounds, device), []
    for density, at_D in places.items():
        wanted_D = exact_n[at_D.long()]
        errors = {
            f"{name}_error": float(
                (pieces[f"{name} {density}"]().double() - wanted_D).abs().max() / wanted_D.abs().max()
            )
            for name in ways
        }
        gathered, by_place = taken[f"gathered {density}"], taken[f"alone {density}"]
        made.append(
            {
                "outputs": outputs, "inputs": inputs, "tokens": tokens, "density": density, "places": len(at_D),
                "way": alone.__name__, "gathered_ms": gathered, "alone_ms": by_place, "times_faster": gathered / by_place,
                "rule": sampled.way(device, len(at_D), (outputs, inputs)), **errors,
            }
        )  # fmt: skip
    return made


def write_deltas(records: Sequence[Record], folder: Path, model: str) -> list[Path]:
    """Writes the table; returns its files.

    Raises:
        ValueError: no measurement was finished.
    """
    done, made = measured(records, model)
    run = done[0]["run"]
    s = run["settings"]
    tables = [r["result"][PART] for r in done]
    rows = [
        {k: statistics.median(r[k] for r in same) if isinstance(v, float) else v for k, v in same[0].items()}
        for same in zip(*tables)
    ]
    for row in rows:
        row["times_faster"] = row["gathered_ms"] / row["alone_ms"]
    slower = [r for r in rows if (r["rule"] == "gathered") is (r["times_faster"] > 1)]
    worst = max((max(r["times_faster"], 1 / r["times_faster"]) for r in slower), default=1.0)
    meets = [f"{o} x {i}, {t:,} tokens: {_meeting(rows, (o, i, t))}" for o, i, t in _cases(rows)]
    notes = [
        f"{run['machine']}; {s['dtype'] + ', ' if 'dtype' in s else ''}medians of {s['rounds']} interleaved rounds x {len(done)} "
        "seed(s)",
        "gathered: the dense gradient by one product, then its entries at the deltas; alone: these entries one by one (equation "
        f"16), {rows[0]['way']} of methods/sampled.py, sorting and transposing included",
        f"the rule takes the slower way in {len(slower)} of {len(rows)} rows"
        + (f", at most {worst:.2f} times as slow" if slower else ""),
        "alone is faster up to: " + "; ".join(meets),
        "error: largest difference from a float64 computation, relative to the largest entry",
        *made,
    ]
    header = [
        "matrix", "tokens", "density, %", "gathered, ms", "alone, ms", "times faster", "the rule", "error, gathered",
        "error, alone",
    ]  # fmt: skip
    cells = [
        [
            f"{r['outputs']} x {r['inputs']}", f"{r['tokens']:,}", f"{100 * r['density']:g}", f"{r['gathered_ms']:.2f}",
            f"{r['alone_ms']:.2f}", f"{r['times_faster']:.2f}", "gathered" if r["rule"] == "gathered" else "alone",
            f"{r['gathered_error']:.1e}", f"{r['alone_error']:.1e}",
        ]
        for r in rows
    ]  # fmt: skip
    title = f"SpIEL appendix E: the gradient at the deltas alone, {model}"
    keys = " ".join(r["key"] for r in done)
    return Table(title, header, cells, notes, [{**row, "keys": keys} for row in rows]).write(folder, PART)


def _cases(rows: Sequence[Row]) -> list[tuple[int, int, int]]:
    return list(dict.fromkeys((r["outputs"], r["inputs"], r["tokens"]) for r in rows))


def _meeting(rows: Sequence[Row], case: tuple[int, int, int]) -> str:
    """The density at which both ways take as long, between the two measured ones around it (on logarithms)."""
    own = [r for r in rows if (r["outputs"], r["inputs"], r["tokens"]) == case]
    last = None
    for row in own:
        if row["times_faster"] <= 1:
            if last is None:
                return f"below {100 * row['density']:g} %"
            a, b = (math.log(r["times_faster"]) for r in (last, row))
            share = a / (a - b)
            at = math.exp((1 - share) * math.log(last["density"]) + share * math.log(row["density"]))
            return f"{100 * at:.2g} %"
        last = row
    return f"{100 * own[-1]['density']:g} % and more"

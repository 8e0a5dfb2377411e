"""What a frozen matrix of 4 bits costs beside the whole one: `kernels --base nf4`; no claim of the papers.

QLoRA (Dettmers et al., 2023) saves memory and pays for it with a whole matrix that is made anew for every product, forward and
backward. Here the product, the product with its gradient of the inputs, and making the matrix alone take turns, over the shapes
of the model's quantized layers.

Shape legend: T tokens, O outputs and I inputs of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from smt_bench.experiments.cost.kernels.deltas import FEWER
from smt_bench.experiments.cost.kernels.pieces import Row, medians
from smt_bench.machine.watch import Watcher
from smt_bench.methods import nf4
from smt_bench.methods.base import Shapes
from smt_bench.methods.modules import targeted
from smt_bench.records.rows import Rows

PART = "nf4"
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def settings(shapes: Shapes, blocks: dict[str, Any]) -> dict[str, Any]:
    """Matrices and tokens; rounds and the type as for blocks.

    Args:
        shapes: of the model's parameters.
        blocks: the settings of the measurement of blocks.
    """
    matrices = sorted({shape for shape in targeted(shapes, LAYERS).values() if len(shape) == 2})
    return {
        "part": PART,
        "matrices": [list(shape) for shape in matrices],
        "tokens": sorted({max(1, blocks["tokens"] // FEWER), blocks["tokens"]}),
        **{name: blocks[name] for name in ("rounds", "dtype") if name in blocks},
    }


def measure(s: dict[str, Any], device: torch.device, dtype: torch.dtype, watch: Watcher, rows: Rows) -> dict[str, Any]:
    """A row per matrix and number of tokens; all pieces of a row take turns."""
    cases = [(tuple(shape), tokens) for shape in s["matrices"] for tokens in s["tokens"]]
    found: list[Row] = []
    for done, ((outputs, inputs), tokens) in enumerate(cases):
        name = f"{outputs} x {inputs}, {tokens} tokens"
        watch("kernels", done, len(cases), name)
        made = rows.get(name)
        if made is None:
            with torch.no_grad():
                made = _case(outputs, inputs, tokens, s["rounds"], device, dtype)
            rows.put({name: made})
        found.append(made)
    return {PART: found}


def _case(outputs: int, inputs: int, tokens: int, rounds: int, device: torch.device, dtype: torch.dtype) -> Row:
    weight_OI = torch.randn(outputs, inputs, device=device).to(dtype)
    x_TI, dy_TO = (torch.randn(tokens, n, device=device).to(dtype) for n in (inputs, outputs))
    codes_OI = nf4.quantized(weight_OI)
    read_OI = nf4.whole(codes_OI)

    def both(weight: torch.Tensor) -> torch.Tensor:
        x = x_TI.detach().requires_grad_()
        with torch.enable_grad():
            (made,) = torch.autograd.grad(F.linear(x, weight), x, dy_TO)
        return made

    pieces: dict[str, Callable[[], Any]] = {
        "forward": lambda: F.linear(x_TI, weight_OI), "forward_nf4": lambda: F.linear(x_TI, codes_OI),
        "both": lambda: both(weight_OI), "both_nf4": lambda: both(codes_OI), "dequantize": lambda: nf4.whole(codes_OI),
    }  # fmt: skip
    taken = medians(pieces, rounds, device)
    exact_TO, exact_TI = x_TI.double() @ read_OI.double().t(), dy_TO.double() @ read_OI.double()
    return {
        "outputs": outputs, "inputs": inputs, "tokens": tokens,
        **{f"{name}_ms": value for name, value in taken.items()},
        "times_slower": taken["both_nf4"] / taken["both"],
        "bytes": weight_OI.numel() * weight_OI.element_size(), "nf4_bytes": nf4.bytes_of((outputs, inputs)),
        "product_error": _apart(pieces["forward_nf4"](), exact_TO), "gradient_error": _apart(pieces["both_nf4"](), exact_TI),
        "rounded": float((read_OI - weight_OI).double().norm() / weight_OI.double().norm()),
    }  # fmt: skip


def _apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).abs().max() / exact.abs().max())


COLUMNS = {
    "outputs": ("outputs", "d"), "inputs": ("inputs", "d"), "tokens": ("tokens", ",d"), "forward_ms": ("forward, ms", ".2f"),
    "forward_nf4_ms": ("over 4 bits, ms", ".2f"), "both_ms": ("with backward, ms", ".2f"),
    "both_nf4_ms": ("over 4 bits, ms", ".2f"), "times_slower": ("times as slow", ".2f"),
    "dequantize_ms": ("making the matrix, ms", ".2f"), "bytes": ("bytes", ",d"), "nf4_bytes": ("bytes of 4 bits", ",d"),
    "product_error": ("error, product", ".1e"), "gradient_error": ("error, gradient", ".1e"), "rounded": ("rounding", ".3f"),
}  # fmt: skip
NOTES = (
    "forward: x W^T; with backward: and the gradient of x, all that a frozen matrix takes part in; over 4 bits the whole matrix "
    "is made for each of the two products, and dropped; times as slow: with backward",
    "error: largest difference from float64 products with the same dequantized numbers, relative to the largest entry; rounding: "
    "norm of what quantizing normal numbers changed, relative to theirs",
)


def write_nf4(table: Callable[..., Any], rows: Sequence[Row], note: str, of: Sequence[Any], folder: Path) -> list[Path]:
    """Writes the table; arguments as `tables` has them."""
    for row in rows:
        row["times_slower"] = row["both_nf4_ms"] / row["both_ms"]
    files: list[Path] = table("A frozen matrix of 4 bits", COLUMNS, rows, [note, *NOTES]).of(of).write(folder, PART)
    return files

"""The pieces of code that `kernels` times, and their bytes. Times are medians in ms of interleaved rounds (`measuring.clock`).

Storage is figure 11's, in float32; the rest is in the type that weights have on the device.

Shape legend: T tokens, O outputs, I inputs of the matrix, N blocks of side l.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import nn

from smt_bench.measuring.clock import interleave
from smt_bench.methods.smt.gradients import WAYS
from smt_bench.methods.smt.install import sparse_layers
from smt_bench.methods.smt.layer import columns_of
from smt_bench.methods.smt.pooled import pool
from smt_bench.methods.smt.selection import block_sums

Row = dict[str, Any]
Index = list[tuple[int, int]]
FIGURE_11 = (4096, 4096)
CORNER = (397, 2113)  # the filled corner of figure 10, 838,861 numbers
SHARES = (0.021, 0.10)  # of the matrix in blocks: appendix I's 2.1 % of a V projection, and many


def medians(pieces: dict[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    """Milliseconds by name."""
    return {name: statistics.median(taken) for name, taken in interleave(pieces, rounds, device).items()}


def choose(shape: Sequence[int], side: int, share: float, seed: int) -> Index:
    """Random blocks that hold about `share` of the matrix, at least one, sorted by column, then row."""
    every = [(row, column) for row in range(shape[0] // side) for column in range(shape[1] // side)]
    count = max(1, round(share * len(every)))
    return sorted(random.Random(seed).sample(every, count), key=lambda block: (block[1], block[0]))


def size(*tensors: torch.Tensor) -> int:
    """Bytes."""
    return sum(t.numel() * t.element_size() for t in tensors)


def storage(tokens: int, rounds: int, device: torch.device) -> list[Row]:
    """Figure 11's matrix in five formats: bytes, and time of its product with T inputs."""
    o, i = FIGURE_11
    corner = torch.randn(CORNER, device=device)
    full = torch.zeros(o, i, device=device)
    full[: CORNER[0], : CORNER[1]] = corner
    x_IT = torch.randn(i, tokens, device=device)
    coo, csr = full.to_sparse().coalesce(), full.to_sparse_csr()
    bsr = full.to_sparse_bsr((256, 256))
    formats: dict[str, tuple[int, Callable[[], Any]]] = {
        "full matrix": (size(full), lambda: full @ x_IT),
        "dense block": (size(corner), lambda: corner @ x_IT[: CORNER[1]]),
        "COO": (size(coo.indices(), coo.values()), lambda: coo @ x_IT),
        "CSR": (size(csr.crow_indices(), csr.col_indices(), csr.values()), lambda: csr @ x_IT),
        "BSR, 256 x 256": (size(bsr.crow_indices(), bsr.col_indices(), bsr.values()), lambda: bsr @ x_IT),
    }
    taken = medians({name: piece for name, (_, piece) in formats.items()}, min(rounds, 5), device)
    return [
        {"format": name, "bytes": size, "to_dense_block": size / formats["dense block"][0], "product_ms": taken[name]}
        for name, (size, _) in formats.items()
    ]


def projection(
    shape: tuple[int, ...],
    sides: Sequence[int],
    tokens: int,
    rounds: int,
    device: torch.device,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> list[Row]:
    """Appendix I: writing 2.1 % of a V projection back, block by block as in the paper's code and as done here."""
    rows = []
    x_TI = torch.randn(tokens, shape[1], device=device).to(dtype)
    for side in sides:
        index = choose(shape, side, SHARES[0], seed)
        linear = nn.Linear(shape[1], shape[0], bias=False, device=device).to(dtype)
        layer = sparse_layers({"v": linear}, {"v": index}, (side, side))[0]["v"]
        weight, blocks = linear.weight.data, layer.blocks.data

        def one_by_one(weight: torch.Tensor = weight, blocks: torch.Tensor = blocks, index: Index = index) -> None:
            side = blocks.shape[1]
            for n, (row, column) in enumerate(index):
                weight[row * side : (row + 1) * side, column * side : (column + 1) * side] = blocks[n]

        taken = medians(
            {
                "forward": lambda weight=weight: nn.functional.linear(x_TI, weight),  # type: ignore[misc]
                "loop": one_by_one,
                "ours": layer.write_back,
            },
            rounds,
            device,
        )
        rows.append(
            {
                "side": side,
                "blocks": len(index),
                "numbers": len(index) * side**2,
                "forward_ms": taken["forward"],
                "loop_ms": taken["loop"],
                "loop_pct": 100 * taken["loop"] / taken["forward"],
                "ours_ms": taken["ours"],
                "ours_pct": 100 * taken["ours"] / taken["forward"],
            }
        )
    return rows


def per_column(dy_TO: torch.Tensor, kept_TC: torch.Tensor, pairs: Index, side: int) -> torch.Tensor:
    """The way not taken: one product for all blocks that share a column, after gathering their rows."""
    dy_TRl = dy_TO.unflatten(1, (-1, side))
    parts = []
    for column, group in groupby(pairs, key=lambda pair: pair[1]):
        rows = [row for row, _ in group]
        dy = dy_TRl[:, rows[0]] if len(rows) == 1 else dy_TRl[:, rows].flatten(1)
        parts.append((dy.t() @ kept_TC[:, column * side : (column + 1) * side]).view(len(rows), side, side))
    return torch.cat(parts)


def gradients(
    shape: tuple[int, ...],
    sides: Sequence[int],
    tokens: int,
    rounds: int,
    device: torch.device,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> list[Row]:
    """Every way to the block gradients, against its FLOPs' share of the dense gradient's time."""
    dy_TO, x_TI = (torch.randn(tokens, n, device=device).to(dtype) for n in shape)
    ways = {"per_block": WAYS["per_block"], "per_column": per_column, "batched": WAYS["batched"]}
    if device.type == "cuda":
        ways["fused"] = WAYS["fused"]
    rows = []
    for side in sides:
        chosen = {len(index): index for index in (choose(shape, side, share, seed) for share in SHARES)}
        for index in chosen.values():
            columns = sorted({column for _, column in index})
            kept_TC = columns_of(x_TI, torch.tensor(columns, device=device), side)
            pairs = [(row, columns.index(column)) for row, column in index]
            pieces: dict[str, Callable[[], Any]] = {
                name: lambda way=way, kept=kept_TC, pairs=pairs, side=side: way(dy_TO, kept, pairs, side)  # type: ignore[misc]
                for name, way in ways.items()
            }
            pieces["dense"] = lambda: dy_TO.t() @ x_TI
            taken = medians(pieces, rounds, device)
            fair = taken["dense"] * len(index) * side**2 / (shape[0] * shape[1])
            rows += [
                {
                    "side": side, "blocks": len(index), "distinct_columns": len(columns), "way": name, "ms": taken[name],
                    "dense_ms": taken["dense"], "flop_share_ms": fair, "to_flop_share": taken[name] / fair,
                }
                for name in ways
            ]  # fmt: skip
    return rows


def scores(
    shape: tuple[int, ...], sides: Sequence[int], tokens: int, rounds: int, device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> list[Row]:  # fmt: skip
    """`mean_abs` scores from pooled features against those from the dense gradient: time and largest relative difference."""
    dy_TO, x_TI = (torch.randn(tokens, n, device=device).to(dtype) for n in shape)
    rows = []
    for side in sides:
        pieces: dict[str, Callable[[], torch.Tensor]] = {
            "pooled": lambda side=side: pool(dy_TO, side).t() @ pool(x_TI, side),  # type: ignore[misc]
            "dense": lambda side=side: block_sums(dy_TO.t() @ x_TI, side),  # type: ignore[misc]
        }
        exact = block_sums(dy_TO.double().t() @ x_TI.double(), side)
        taken = medians(pieces, rounds, device)
        rows.append(
            {
                "side": side,
                "pooled_ms": taken["pooled"],
                "dense_ms": taken["dense"],
                "times_faster": taken["dense"] / taken["pooled"],
                "pooled_error": ((pieces["pooled"]() - exact).abs().max() / exact.abs().max()).item(),
                "dense_error": ((pieces["dense"]() - exact).abs().max() / exact.abs().max()).item(),
            }
        )
    return rows

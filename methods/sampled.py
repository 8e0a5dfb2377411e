"""Entries of a weight gradient at chosen places alone (SpIEL, appendix E, equation 16), and when that is the faster way.

    g_d = (dYᵀ X)[r_d, c_d] = dY[:, r_d] · X[:, c_d],   float32 or more precise, whatever dY and X are

- `gathered`: the whole gradient by one matrix product, then these entries of it. T O I multiplications, at the rate of a dense
  product; a matrix as large as the weight is alive meanwhile. What the paper's own numbers are of.
- `by_row`: `torch.sparse.sampled_addmm`. T D multiplications, each sum on its own; dY and X are transposed first, so that what is
  summed over lies side by side, and the places are sorted. For CPUs.
- `fused`: one Triton kernel (`spiel/triton_kernel.py`), for GPUs; places in any order.

The rule (`way`): at the places alone up to the share of the matrix in `LIMITS`, gathered beyond, and in narrow matrices. On a CPU
it is measured (`run kernels --model bench-60m`, and `tiny`; table `deltas`; LOG.md). On a GPU it is counted, not measured: every
place reads 2 T numbers, at the rate of a second-level cache, while the dense product runs at that of tensor cores; on an H100 in
bf16 the two meet at 0.5 %.
Sums are formed in another order, so that the two ways agree as two orders of summing float32 do, not bit by bit.

Shapes: T tokens, O outputs and I inputs of a matrix, D places in it, flattened.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch

from smt_bench.methods import guarded, products
from smt_bench.methods.products import product, wide

FUSED = "SpIEL delta gradients"  # the kernel's name in records
LIMITS = {"cpu": 0.05, "cuda": 0.005}  # share of a matrix up to which its places are computed alone
NARROW = 128  # sides below are gathered: transposing dY and X takes longer than so small a product


def way(device: torch.device, places: int, shape: tuple[int, int]) -> str:
    """The rule: "by_row", "fused" or "gathered", by device, density and shape, and nothing else.

    Args:
        device: of the gradient.
        places: D.
        shape: (O, I).
    """
    if min(shape) < NARROW or places > LIMITS.get(device.type, 0.0) * shape[0] * shape[1]:
        return "gathered"
    if device.type == "cuda":
        return "fused" if guarded.used(FUSED, device) else "gathered"
    return "by_row" if device.type in products.ROUNDING else "gathered"  # a dry run's CPU stands for a GPU


def product_at(dy_TO: torch.Tensor, x_TI: torch.Tensor, places_D: torch.Tensor) -> torch.Tensor | None:
    """(dYᵀ X) at these places, (D,); None where the rule says that the whole of it is faster.

    Args:
        dy_TO: gradient of a layer's output.
        x_TI: its input.
        places_D: positions in the flattened (O, I) product.
    """
    chosen = way(dy_TO.device, len(places_D), (dy_TO.shape[1], x_TI.shape[1]))
    if chosen == "fused":
        found: torch.Tensor | None = guarded.guarded(FUSED, lambda: fused(dy_TO, x_TI, places_D), lambda: None)
        return found
    return by_row(dy_TO, x_TI, places_D) if chosen == "by_row" else None


def gathered(dy_TO: torch.Tensor, x_TI: torch.Tensor, places_D: torch.Tensor) -> torch.Tensor:
    """(D,), from the whole product."""
    return product(dy_TO.t(), x_TI).view(-1).index_select(0, places_D)


def by_row(dy_TO: torch.Tensor, x_TI: torch.Tensor, places_D: torch.Tensor) -> torch.Tensor:
    """(D,), place by place, on a CPU."""
    dy_OT, x_IT = _columns(dy_TO), _columns(x_TI)
    sorted_D, order_D = places_D.sort()
    width = x_TI.shape[1]
    edges = torch.arange(dy_TO.shape[1] + 1, dtype=torch.int64, device=places_D.device) * width
    rows = torch.searchsorted(sorted_D, edges.to(sorted_D.dtype)).to(sorted_D.dtype)
    values_D = sampled_product(dy_OT, x_IT, rows, sorted_D % width)
    return torch.empty_like(values_D).index_copy_(0, order_D, values_D)


def fused(dy_TO: torch.Tensor, x_TI: torch.Tensor, places_D: torch.Tensor) -> torch.Tensor:
    """(D,), by one Triton kernel; needs the triton package, which torch's CUDA builds bring along."""
    from smt_bench.methods.spiel.triton_kernel import products_at

    if dy_TO.dtype != x_TI.dtype:
        common = torch.promote_types(dy_TO.dtype, x_TI.dtype)
        dy_TO, x_TI = dy_TO.to(common), x_TI.to(common)
    out_D = torch.empty(len(places_D), dtype=wide(dy_TO.dtype), device=dy_TO.device)
    return products_at(dy_TO.t().contiguous(), x_TI.t().contiguous(), places_D, out_D)


def _columns(a_TN: torch.Tensor) -> torch.Tensor:
    """(N, T), contiguous, float32 or more precise."""
    return a_TN.t().to(wide(a_TN.dtype), memory_format=torch.contiguous_format).contiguous()


@torch.library.custom_op("smt_bench::sampled_product", mutates_args=())
def sampled_product(
    a_MT: torch.Tensor, b_NT: torch.Tensor, rows: torch.Tensor, columns_D: torch.Tensor
) -> torch.Tensor:
    """(a bᵀ) at places that are sorted by row, (D,).

    An operation of its own, so that accounts of memory and operations see its inputs and its result as one step, and dry runs
    have a stand-in for it: sparse tensors have no storage that could be followed.

    Args:
        a_MT: contiguous.
        b_NT: contiguous, of the same type.
        rows: (M + 1,), how many places lie before each row; of the type of `columns_D`.
        columns_D: of every place.
    """
    shape = (a_MT.shape[0], b_NT.shape[0])
    zeros_D = torch.zeros(len(columns_D), dtype=a_MT.dtype, device=a_MT.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "Sparse CSR tensor support is in beta state"
        pattern = torch.sparse_csr_tensor(rows, columns_D, zeros_D, shape, check_invariants=False)
    values_D: torch.Tensor = torch.sparse.sampled_addmm(pattern, a_MT, b_NT.t(), beta=0.0).values()
    return values_D


@sampled_product.register_fake
def _(a_MT: torch.Tensor, b_NT: torch.Tensor, rows: torch.Tensor, columns_D: torch.Tensor) -> torch.Tensor:
    return a_MT.new_empty(len(columns_D))


@cache
def tried(device: torch.device, dtype: torch.dtype) -> None:
    """Runs the kernel once, where it may be used, on numbers whose sums are exact: it has to give the plain way's bits.

    Compiled before training, it cannot end a backward pass.
    """
    if device.type != "cuda" or not guarded.used(FUSED, device):
        return
    dy_TO, x_TI = (
        (torch.arange(70 * n, device=device).reshape(70, n) % period - period // 2).to(dtype)
        for n, period in ((24, 7), (40, 5))
    )
    places_D = torch.arange(0, 24 * 40, 11, device=device, dtype=torch.int32).flip(0)
    plain = gathered(dy_TO, x_TI, places_D)
    if not torch.equal(guarded.guarded(FUSED, lambda: fused(dy_TO, x_TI, places_D), lambda: plain), plain):
        guarded.leave(FUSED, "its numbers were wrong when it was tried")

"""Which blocks train: scores from warm-up statistics, and the choice of the best n (SMT, section 3 and appendix B).

Blocks are numbered in model order: matrix by matrix, row of blocks by row of blocks. All functions are pure.

Appendix B.2 selects single channels, i.e. columns of W. They are blocks too, one number wide and as high as the targets allow:
the greatest common divisor of their numbers of rows, O itself where all are equally high. The strips of one channel score the
same and follow each other, and so do those of layers that read one input; the budget may end within a channel.

Shape legend: O, I sides of a weight matrix; l side of a block; R = O/l rows and C = I/l columns of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from smt_bench.methods.base import Shapes
from smt_bench.methods.modules import apportion, targeted

Selection = dict[str, list[tuple[int, int]]]  # layer name -> (row, column) of its blocks, sorted by column, then row


def block_sums(grad_OI: torch.Tensor, side: int) -> torch.Tensor:
    """Signed sum over every block, (R, C): all that `mean_abs` needs, since it is linear in the gradient."""
    rows, cols = grad_OI.shape[0] // side, grad_OI.shape[1] // side
    return grad_OI.reshape(rows, side, cols, side).sum(dim=(1, 3))


def _over_blocks(reduce: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor, int], torch.Tensor]:
    def score(grad_OI: torch.Tensor, side: int) -> torch.Tensor:
        rows, cols = grad_OI.shape[0] // side, grad_OI.shape[1] // side
        return reduce(grad_OI.reshape(rows, side, cols, side))

    return score


# Table 7 of the paper. All four read the gradient summed, with its sign, over the warm-up steps. For blocks of one size
# `abs_mean` and `abs_sum` rank identically, so any difference the paper prints between them is run-to-run noise.
METRICS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "mean_abs": lambda grad_OI, side: (block_sums(grad_OI, side) / side**2).abs(),
    "abs_mean": _over_blocks(lambda g: g.abs().mean(dim=(1, 3))),
    "abs_sum": _over_blocks(lambda g: g.abs().sum(dim=(1, 3))),
    "l2": _over_blocks(lambda g: g.square().sum(dim=(1, 3)).sqrt()),
}
ACTIVATION = "activation"  # ours: whole columns of blocks, by the mean norm of their channels
CHANNELS = "activation_channels"  # AW-selection as appendix B.2 has it: single channels
BY_INPUT = (ACTIVATION, CHANNELS)  # what looks at no gradient
SCOPES = ("global", "per_layer", "random")


def activation_scores(norms_I: torch.Tensor, rows: int, side: int) -> torch.Tensor:
    """AW-selection: mean input-channel norm of a block's columns, (R, C); every row of blocks scores the same.

    Args:
        norms_I: mean L2 norm of each input channel over the warm-up batches (appendix B.2).
        rows: R of the matrix.
        side: l.
    """
    return norms_I.reshape(1, -1, side).mean(dim=2).expand(rows, -1)


def channel_scores(norms_I: torch.Tensor, rows: int) -> torch.Tensor:
    """AW-selection of appendix B.2: every channel's own norm, (R, I), for all strips of the channel.

    Args:
        norms_I: norm of each input channel over the warm-up batches.
        rows: R of the matrix, in strips.
    """
    return norms_I.expand(rows, -1)


def resolve_side(block_size: int | str, matrices: Mapping[str, tuple[int, int]]) -> int:
    """The block side: as given, or the greatest common divisor of all targeted sides for "auto".

    Raises:
        ValueError: the side does not divide some targeted matrix.
    """
    common = math.gcd(*(side for shape in matrices.values() for side in shape))
    if block_size == "auto":
        return common
    side = int(block_size)
    for layer, shape in matrices.items():
        if any(n % side for n in shape):
            raise ValueError(
                f"block_size={side} does not divide {layer}.weight {shape}: choose a divisor of {common}, or auto"
            )
    return side


def grid(shapes: Shapes, targets: tuple[str, ...], block_size: int | str) -> tuple[int, dict[str, tuple[int, int]]]:
    """The block side l and (R, C) of every targeted matrix, in model order.

    Raises:
        ValueError: unknown target, or a block size that does not divide.
    """
    matrices = targeted(shapes, targets)
    side = resolve_side(block_size, matrices)
    return side, {layer: (o // side, i // side) for layer, (o, i) in matrices.items()}


def channel_grid(shapes: Shapes, targets: tuple[str, ...]) -> tuple[int, dict[str, tuple[int, int]]]:
    """The height of a channel's strips and (R, I) of every targeted matrix, in model order.

    Raises:
        ValueError: unknown target.
    """
    matrices = targeted(shapes, targets)
    height = math.gcd(*(o for o, _ in matrices.values()))
    return height, {layer: (o // height, i) for layer, (o, i) in matrices.items()}


def _top(scores: torch.Tensor, count: int) -> list[int]:
    # A stable sort: among equal scores the earlier block wins, on every machine.
    return torch.sort(scores.double(), descending=True, stable=True).indices[:count].tolist()


def select(scores: Mapping[str, torch.Tensor], count: int, scope: str, seed: int) -> Selection:
    """The best `count` blocks.

    Args:
        scores: layer name -> (R, C), higher is better; only shapes matter for scope "random".
        count: blocks to choose in all.
        scope: "global" over all matrices together; "per_layer" the same share of every matrix; "random" uniformly
            over all matrices (table 9; its text says so, its caption "in every layer").
        seed: for "random".

    Returns:
        Only the layers that got a block.

    Raises:
        ValueError: a score is not finite (the warm-up diverged).
    """
    names = list(scores)
    sizes = {name: scores[name].numel() for name in names}
    if scope == "random":
        generator = torch.Generator().manual_seed(seed)
        flat = torch.randperm(sum(sizes.values()), generator=generator)[:count].tolist()
    else:
        bad = [name for name in names if not torch.isfinite(scores[name]).all()]
        if bad:
            raise ValueError(f"block scores of {bad[0]} are not finite: the warm-up diverged, lower the learning rate")
        if scope == "global":
            flat = _top(torch.cat([scores[name].reshape(-1).cpu() for name in names]), count)
        else:
            flat, start = [], 0
            for name, share in apportion(count, sizes).items():
                flat += [start + i for i in _top(scores[name].reshape(-1).cpu(), share)]
                start += sizes[name]
    return _by_layer(flat, {name: tuple(scores[name].shape) for name in names})


def _by_layer(flat: list[int], shapes: Mapping[str, tuple[int, ...]]) -> Selection:
    chosen: Selection = {}
    start = 0
    wanted = sorted(flat)
    position = 0
    for name, (rows, cols) in shapes.items():
        blocks = []
        while position < len(wanted) and wanted[position] < start + rows * cols:
            blocks.append(divmod(wanted[position] - start, cols))
            position += 1
        if blocks:
            chosen[name] = sorted(blocks, key=lambda block: (block[1], block[0]))
        start += rows * cols
    return chosen

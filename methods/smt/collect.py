"""The warm-up's statistics: what is watched, where it is summed up, and the block scores that follow.

A warm-up that trains has dense gradients anyway and keeps, per step, one number per block (`mean_abs`) or one matrix per
target (`methods.sums`). A frozen one needs no weight gradient at all for `mean_abs` (`pooled.py`), no backward pass for
activations and "random", and for the other metrics makes and drops one matrix gradient after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import Average
from smt_bench.methods.modules import linears, replace_module
from smt_bench.methods.smt.install import same_input
from smt_bench.methods.smt.layer import Shared
from smt_bench.methods.smt.pooled import PooledLinear, pool
from smt_bench.methods.smt.selection import BY_INPUT, CHANNELS, METRICS, activation_scores, block_sums, channel_scores
from smt_bench.methods.sums import Sums


def needs_gradients(metric: str, scope: str) -> bool:
    """Whether a choice of blocks looks at gradients at all."""
    return metric not in BY_INPUT and scope != "random"


class Collector:
    """Sums over the warm-up steps of one run.

    Args:
        targets: layers whose blocks are scored.
        metric: block score.
        scope: "random" needs no statistics.
        side: l; height of the strips where channels are chosen.
        grid: (R, C) of every targeted matrix.
        sums: layer name -> sums so far; filled in place.
        average: mean over processes.
    """

    def __init__(
        self,
        targets: tuple[str, ...],
        metric: str,
        scope: str,
        side: int,
        grid: dict[str, tuple[int, int]],
        sums: dict[str, torch.Tensor],
        average: Average,
    ) -> None:
        self.targets, self.metric, self.side, self.grid, self.sums = targets, metric, side, grid, sums
        self.average = average
        self.random = scope == "random"
        self.needs_gradients = needs_gradients(metric, scope)
        self._pooled: dict[str, PooledLinear] = {}
        self._whole = Sums(sums, sum(4 * rows * cols * side**2 for rows, cols in grid.values()))
        self._undo: list[Callable[[], None]] = []

    def start(self, model: nn.Module, trains: bool) -> None:
        """Puts into the model what watches it; `trains` says that every weight will have a gradient at `observe`."""
        found = dict(linears(model, self.targets))
        if self.metric in BY_INPUT and not self.random:
            for name, linear in found.items():
                self._undo.append(linear.register_forward_pre_hook(self._watch(name)).remove)
        if trains or not self.needs_gradients:
            return
        if self.metric == "mean_abs":
            for group in same_input(list(found)):
                shared = Shared(lambda x: pool(x, self.side), len(group))
                for name in group:
                    self._pooled[name] = PooledLinear(found[name], self.side, shared)
                    replace_module(model, name, self._pooled[name])
        else:
            for name, linear in found.items():
                linear.weight.requires_grad_(True)
                self._undo.append(linear.weight.register_post_accumulate_grad_hook(self._take(name)).remove)

    def observe(self, model: nn.Module, trains: bool) -> None:
        """Adds the gradients of one step."""
        for name, layer in self._pooled.items():
            assert layer.sums.grad is not None
            self._add(name, layer.sums.grad)
            layer.sums.grad = None
        if not (trains and self.needs_gradients):
            return
        for name, linear in linears(model, self.targets):
            assert linear.weight.grad is not None
            grad_OI = linear.weight.grad.float()
            self._add(name, block_sums(grad_OI, self.side) if self.metric == "mean_abs" else grad_OI)

    def stop(self, model: nn.Module) -> None:
        """Takes out of the model what `start` put in."""
        for undo in self._undo:
            undo()
        for name, layer in self._pooled.items():
            replace_module(model, name, layer.dense())
        self._undo, self._pooled = [], {}
        self._whole.close()

    def scores(self) -> dict[str, torch.Tensor]:
        """Layer name -> (R, C), higher is better."""
        if self.random:
            return {name: torch.zeros(shape) for name, shape in self.grid.items()}
        if self.metric == CHANNELS:
            return {n: channel_scores(self.sums[n], rows) for n, (rows, _) in self.grid.items()}
        if self.metric in BY_INPUT:
            return {n: activation_scores(self.sums[n], rows, self.side) for n, (rows, _) in self.grid.items()}
        if self.metric == "mean_abs":
            return {name: (sums / self.side**2).abs() for name, sums in self.sums.items()}
        return {name: METRICS[self.metric](sums, self.side) for name, sums in self.sums.items()}

    def _add(self, name: str, value: torch.Tensor) -> None:
        if value.shape != self.grid[name]:
            self._whole.add(name, value)
        elif name in self.sums:
            self.sums[name] += value.to(self.sums[name].device)
        else:
            self.sums[name] = value.clone()

    def _take(self, name: str) -> Callable[[torch.Tensor], None]:
        def hook(weight: torch.Tensor) -> None:
            assert weight.grad is not None
            self._add(name, self.average(weight.grad.float()))
            weight.grad = None  # before the next matrix's gradient is made

        return hook

    def _watch(self, name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            x_TI = inputs[0].detach().reshape(-1, inputs[0].shape[-1])
            norm_I = x_TI.float().norm(dim=0)
            squares_I = norm_I.square()
            # Over the tokens of all processes; their number, the same factor everywhere, leaves the ranking as it is.
            mean_I = self.average(squares_I)
            self._add(name, norm_I if mean_I is squares_I else mean_I.sqrt())

        return hook

"""SM3 for the deltas of many matrices: one number per row and one per column instead of moments (SpIEL, section 3.3).

For a matrix with row buffers r, column buffers c (zeros at first) and a delta phi_j with gradient g_j at row a, column b:

    nu_j  = min(r_a, c_b) + g_j^2                  from the buffers of before
    r_a   = max(r_a, nu_j over the row's deltas),  c_b likewise
    phi_j = (phi_j - lr g_j / sqrt(nu_j + eps)) (1 - lr lambda)

(Anil et al., 2019, SM3-II). Nothing decays: the buffers only grow, see active deltas only, and stay when indices move.

Shapes: D deltas of one matrix, H rows, W columns; the buffers of a parameter's matrices stand one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from smt_bench.methods.deltas import SpielLinear


@dataclass(frozen=True)
class Part:
    """A layer's place in a parameter of the optimizer.

    Attributes:
        layer: where the deltas point.
        first: its first delta.
        row: its first row buffer.
        column: its first column buffer.
    """

    layer: SpielLinear
    first: int
    row: int
    column: int

    @property
    def deltas(self) -> slice:
        """Its deltas in the parameter."""
        return slice(self.first, self.first + len(self.layer.deltas))

    @property
    def rows(self) -> slice:
        """Its row buffers."""
        return slice(self.row, self.row + self.layer.out_features)

    @property
    def columns(self) -> slice:
        """Its column buffers."""
        return slice(self.column, self.column + self.layer.in_features)


class SpielSM3(torch.optim.Optimizer):
    """SM3; state per parameter is `rows` and `columns`, of all its matrices.

    Args:
        params: parameter groups.
        parts: the layers in each parameter, parameters in the groups' order.
        lr: learning rate.
        eps: added to nu, under the root.
        weight_decay: lambda, per unit of learning rate.
    """

    def __init__(
        self,
        params: Any,
        parts: Sequence[Sequence[tuple[SpielLinear, int]]],
        lr: float,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})
        self._parts: dict[torch.Tensor, list[Part]] = {}
        ours = [param for group in self.param_groups for param in group["params"]]
        for param, layers in zip(ours, parts, strict=True):
            row = column = 0
            for layer, first in layers:
                self._parts.setdefault(param, []).append(Part(layer, first, row, column))
                row, column = row + layer.out_features, column + layer.in_features

    def _state(self, param: torch.Tensor) -> dict[str, torch.Tensor]:
        state: dict[str, torch.Tensor] = self.state[param]
        if not state:
            last = self._parts[param][-1]
            state["rows"], state["columns"] = param.new_zeros(last.rows.stop), param.new_zeros(last.columns.stop)
        return state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self._state(param)
                for part in self._parts[param]:
                    rows_H, columns_W = state["rows"][part.rows], state["columns"][part.columns]
                    grad_D, indices_D = param.grad[part.deltas], part.layer.indices.long()
                    row_D, column_D = indices_D // part.layer.in_features, indices_D % part.layer.in_features
                    nu_D = torch.minimum(rows_H[row_D], columns_W[column_D]).addcmul_(grad_D, grad_D)
                    rows_H.scatter_reduce_(0, row_D, nu_D, "amax")
                    columns_W.scatter_reduce_(0, column_D, nu_D, "amax")
                    param[part.deltas].addcdiv_(grad_D, nu_D.add_(group["eps"]).sqrt_(), value=-group["lr"])
                param.mul_(1 - group["lr"] * group["weight_decay"])
        return loss

    def buffers(self, param: torch.Tensor) -> list[tuple[SpielLinear, torch.Tensor, torch.Tensor]]:
        """Every layer of a parameter with its row (H,) and column (W,) buffers, views."""
        state = self._state(param)
        return [(part.layer, state["rows"][part.rows], state["columns"][part.columns]) for part in self._parts[param]]

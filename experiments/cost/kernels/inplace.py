"""Where trained blocks live: in a float32 copy, or in place as strided views of the weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from smt_bench.experiments.cost.kernels.pieces import SHARES, Index, Row, choose, medians, size
from smt_bench.machine.memory import exhausted
from smt_bench.methods.smt.install import sparse_layers
from smt_bench.records.outcome import first_line, portable

KINDS: dict[str, dict[str, Any]] = {
    "copy in float32": {"fused": True},
    "in place, loop": {"foreach": False},
    "in place, foreach": {"foreach": True},
    "in place, fused": {"fused": True},
}
STEPS, RATE = 100, 1e-5  # an update of 1e-5 is below bfloat16's rounding step for most weights
LARGE = 0.05  # above it for all of them


@dataclass
class Trial:
    """One matrix whose blocks are trained under a constant gradient of +-1, (N, l, l)."""

    linear: nn.Linear
    index: Index
    side: int
    grad_Nll: torch.Tensor

    def __post_init__(self) -> None:
        self.start = self.linear.weight.data.clone()

    def views(self) -> list[torch.Tensor]:
        """The blocks inside the weight."""
        seen = self.linear.weight.data.unflatten(1, (-1, self.side)).unflatten(0, (-1, self.side))
        return [seen[row, :, column, :] for row, column in self.index]

    def begin(self, kind: str, lr: float) -> tuple[list[nn.Parameter], torch.optim.Optimizer, Callable[[], None]]:
        """Puts the weight back to its start; returns what trains, its optimizer, and one update."""
        self.linear.weight.data.copy_(self.start)
        if kind.startswith("copy"):
            layer = sparse_layers({"v": self.linear}, {"v": self.index}, (self.side, self.side))[0]["v"]
            layer.blocks.grad = self.grad_Nll
            params = [layer.blocks]
        else:
            layer = None
            params = [nn.Parameter(view) for view in self.views()]
            for parameter, grad in zip(params, self.grad_Nll):
                parameter.grad = grad.to(parameter.dtype)
        optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=0.0, eps=0.0, **KINDS[kind])

        def update() -> None:
            optimizer.step()
            if layer is not None:
                layer.write_back()

        return params, optimizer, update

    def right(self, kind: str) -> bool:
        """Whether one large step moves every number by the rate, to within the weight's rounding."""
        self.linear.weight.data.copy_(self.start)
        before = torch.stack(self.views()).float()
        _, _, update = self.begin(kind, LARGE)
        update()
        moved = torch.stack(self.views()).float() - before
        rounding = 2.0 ** (-7 if self.start.dtype == torch.bfloat16 else -22)
        return bool(((moved + LARGE * self.grad_Nll).abs() <= rounding * (before.abs() + LARGE)).all())


def updates(shape: tuple[int, ...], side: int, rounds: int, device: torch.device, seed: int) -> list[Row]:
    """Bytes, time of an update, and what becomes of it.

    AdamW under a constant gradient moves every number by the rate per step: `kept_pct` is how much of that way the trained
    numbers went in `STEPS` steps.
    """
    index = choose(shape, side, SHARES[1], seed)
    grad_Nll = torch.randn(len(index), side, side, device=device).sign()
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        trial = Trial(nn.Linear(shape[1], shape[0], bias=False, device=device, dtype=dtype), index, side, grad_Nll)
        for kind in KINDS:
            rows.append(
                {
                    "weights": str(dtype).removeprefix("torch."),
                    "blocks": len(index),
                    "kind": kind,
                }
                | _tried(trial, kind, rounds, device)
            )
    return rows


def _tried(trial: Trial, kind: str, rounds: int, device: torch.device) -> Row:
    """One way to keep blocks; where torch refuses it (the fused kernel on a GPU, strided views), what it says and no numbers."""
    try:
        right = trial.right(kind)
        params, optimizer, update = trial.begin(kind, RATE)
        before = [p.detach().float().clone() for p in params]
        for _ in range(STEPS):
            update()
    except (RuntimeError, ValueError, NotImplementedError) as error:
        if exhausted(error):
            raise
        names = ("block_bytes", "adam_bytes", "update_ms", "right", "kept_pct")
        return {**dict.fromkeys(names), "refused": portable(first_line(error))}
    way = torch.cat([(p.float() - b).abs().flatten() for p, b in zip(params, before)]).mean().item()
    state = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v) and v.dim()]
    return {
        "block_bytes": size(*params) if kind.startswith("copy") else 0,
        "adam_bytes": size(*state),
        "update_ms": medians({"update": update}, rounds, device)["update"],
        "right": int(right),
        "kept_pct": 100 * way / (STEPS * RATE),
    }

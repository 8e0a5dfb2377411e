"""Learning-rate schedule, and float32 master copies for parameters of lower precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import Method, OptimizerSettings, ParamGroup


def linear_factor(step: int, steps: int, warmup: int) -> float:
    """Factor on the peak rate at step 1..steps: up to 1 over `warmup` steps, then down in a line to 0 after the last."""
    if step <= warmup:
        return step / warmup
    return (steps - step + 1) / (steps - warmup)


def torch_groups(
    groups: Sequence[ParamGroup], params: Sequence[list[nn.Parameter]], settings: OptimizerSettings
) -> list[dict[str, Any]]:
    """Groups as torch's optimizers take them, with `params` in place of the groups' own."""
    return [
        {
            "params": own,
            "lr": settings.lr * group.lr_scale,
            "weight_decay": settings.weight_decay if group.weight_decay is None else group.weight_decay,
        }
        for group, own in zip(groups, params)
    ]


class Updater:
    """The optimizer of one phase, with schedule and master copies.

    Parameters below float32 (bf16 weights under full fine-tuning) are updated through float32 copies, since their own
    rounding step swallows small updates.

    Args:
        method: builds the optimizer.
        groups: what trains.
        settings: peak rate, betas, eps, default weight decay.
    """

    def __init__(self, method: Method, groups: list[ParamGroup], settings: OptimizerSettings) -> None:
        self.params = [p for group in groups for p in group.params]
        self._masters: list[tuple[nn.Parameter, nn.Parameter]] = []
        params = [[self._master(p) for p in group.params] for group in groups]
        self.optimizer = method.optimizer(torch_groups(groups, params, settings), settings)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]

    def _master(self, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.dtype not in (torch.bfloat16, torch.float16):
            return parameter
        master = nn.Parameter(parameter.detach().float())
        self._masters.append((parameter, master))
        return master

    def close(self) -> None:
        """Ends the phase."""

    def step(self, factor: float) -> None:
        """One update at `factor` times the peak rates; clears the gradients."""
        for group, peak in zip(self.optimizer.param_groups, self._peaks):
            group["lr"] = peak * factor
        for parameter, master in self._masters:
            master.grad = None if parameter.grad is None else parameter.grad.float()
        self.optimizer.step()
        with torch.no_grad():
            for parameter, master in self._masters:
                parameter.copy_(master)
                master.grad = None
        for parameter in self.params:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Optimizer state and master copies (references)."""
        return {"optimizer": self.optimizer.state_dict(), "masters": [master.detach() for _, master in self._masters]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`, once the parameters have their values."""
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for (_, master), value in zip(self._masters, state["masters"], strict=True):
                master.copy_(value)

    def parameter_bytes(self) -> int:
        """Bytes of all that trains."""
        return sum(p.numel() * p.element_size() for p in self.params)

    def state_bytes(self) -> int:
        """Bytes of optimizer state and master copies."""
        tensors = [t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
        tensors += [master for _, master in self._masters]
        return sum(t.numel() * t.element_size() for t in tensors)

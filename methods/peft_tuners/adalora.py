"""`peft:adalora` (Zhang et al., 2023): W + B diag(E) A, whose ranks are shared out by importance while training.

Peft's own forward pass adds a penalty on A A^T - 1 and B^T B - 1 to the loss, and its trainer asks for a new allocation after
every optimizer step, while the gradients are there. Here the engine owns loss and step: the penalty's gradient is added in
`after_backward`, and the gradients are shown again in `after_step`. Deviation: the allocation sees gradients before clipping.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import ParamGroup
from smt_bench.methods.peft_tuners.method import PeftTuner

_KEPT = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # of peft's allocator: importance, its mean and its uncertainty


def penalty(factors: list[torch.Tensor]) -> torch.Tensor:
    """Mean Frobenius distance of the Gram matrices from the identity.

    Args:
        factors: each (r, n), rows meant to be orthonormal.
    """
    return torch.stack([torch.linalg.norm(f @ f.T - torch.eye(len(f), device=f.device)) for f in factors]).mean()


class AdaLora(PeftTuner):
    """Low-rank adapters with a budget of ranks for all layers together."""

    _state: Mapping[str, Any] | None = None

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """As every tuner; then the allocator is put back where a run goes on."""
        groups = super().attach(model)
        self._grads: dict[nn.Parameter, torch.Tensor] = {}
        if self._state is not None:
            for name in _KEPT:
                setattr(self._injected.rankallocator, name, dict(self._state[name]))
            self._injected.peft_config["default"].rank_pattern = self._state["rank_pattern"]
        return groups

    def after_backward(self, model: nn.Module, step: int) -> None:
        """Adds the penalty's gradient, and keeps the gradients for the allocation."""
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        sides = {
            p: ".lora_A." in name for name, p in named if ".lora_E." not in name
        }  # whether rows are to be orthonormal
        weight = self._injected.peft_config["default"].orth_reg_weight
        if weight:
            with torch.enable_grad():
                extra = weight * penalty([p if lies else p.T for p, lies in sides.items()])
                more = torch.autograd.grad(extra, list(sides))
            for parameter, added in zip(sides, more):
                if parameter.grad is not None:
                    parameter.grad.add_(added)
        self._grads = {p: p.grad.detach().clone() for _, p in named if p.grad is not None}

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Peft's allocation for this step."""
        for parameter, grad in self._grads.items():
            parameter.grad = grad
        self._injected.update_and_allocate(step)
        for parameter in self._grads:
            parameter.grad = None
        self._grads = {}

    def describe(self) -> dict[str, Any]:
        """The ranks that were left, beside the settings."""
        pattern = self._injected.peft_config["default"].rank_pattern or {}
        ranks = {name.removesuffix(".lora_E.default"): sum(kept) for name, kept in pattern.items()}
        return super().describe() | {"ranks": ranks}

    def state_dict(self) -> dict[str, Any]:
        """The allocator's means, and the ranks it has decided on."""
        if not hasattr(self, "_injected"):
            return {}
        found = {name: dict(getattr(self._injected.rankallocator, name)) for name in _KEPT}
        return found | {"rank_pattern": self._injected.peft_config["default"].rank_pattern}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Kept until the adapters are there."""
        self._state = state or None

"""AdamW for deltas that live for different numbers of steps (SpIEL, section 3.2, on the optimizer's buffers).

Adam divides its running moments by 1 - beta^t because they start at zero. In SpIEL the weights of one tensor start at
different steps, so t is kept per weight (its *age*), and a freshly grown weight gets moments that already stand for the
gradient estimation phase. With nothing ever replaced this is `torch.optim.AdamW`.

Deviations / decisions:
    - "Use these values to seed the optimizer momenta" leaves the scale open. We choose the buffers so that the
      *bias-corrected* moments are the estimates: age = gamma, exp_avg = mean(g) (1 - beta1^gamma), exp_avg_sq =
      mean(g^2) (1 - beta2^gamma). A grown weight then continues as if Adam had watched it for gamma steps.
    - Weight decay is decoupled and acts on the deltas, so it pulls weights back to their pretrained values.
    - The age is kept in the parameter's dtype because `Optimizer.load_state_dict` casts all state to it; float32 counts
      exactly to 2^24 steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

CHUNK = 1 << 24  # numbers that are updated at a time


def bias_correction(age_D: torch.Tensor, beta: float) -> torch.Tensor:
    """1 - beta^age per weight; through expm1, since 1 - 0.999^1 in float32 keeps only four digits."""
    return -torch.expm1(age_D * (math.log(beta) if beta > 0 else -math.inf))


class SpielAdamW(torch.optim.Optimizer):
    """AdamW with an age per weight; state per parameter is `exp_avg`, `exp_avg_sq` and `age`, each (D,).

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay of the first and second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled, per unit of learning rate.
        transformers: as transformers' former AdamW does it, on which the authors' optimizer is built: eps is added before the
            second moment's bias is corrected, and weights decay after the step. Their counters are read before they are counted
            up, so that a reseeded weight's corrections are those of one step less.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        transformers: bool = False,
    ) -> None:
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1):
            raise ValueError(f"betas={tuple(betas)}: choose both from 0 to below 1")
        for what, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{what}={value}: choose 0 or more")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})
        self.transformers = transformers

    def _state(self, param: torch.Tensor) -> dict[str, Any]:
        """The parameter's state, zeros on first use."""
        state: dict[str, Any] = self.state[param]
        if not state:
            for key in ("exp_avg", "exp_avg_sq", "age"):
                state[key] = torch.zeros_like(param, memory_format=torch.preserve_format)
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
                wholes = (param, param.grad, state["exp_avg"], state["exp_avg_sq"], state["age"])
                # All of a model's deltas are one tensor: temporaries as large as that would be the peak.
                for own, grad_D, mean_D, square_D, age_D in zip(*(whole.split(CHUNK) for whole in wholes), strict=True):
                    self._update(own, grad_D, mean_D, square_D, age_D, group)
        return loss

    def _update(
        self,
        param: torch.Tensor,
        grad_D: torch.Tensor,
        mean_D: torch.Tensor,
        square_D: torch.Tensor,
        age_D: torch.Tensor,
        group: dict[str, Any],
    ) -> None:
        """One update of some numbers, in place; every number by itself."""
        lr, (beta1, beta2) = group["lr"], group["betas"]
        age_D += 1
        decay = 1 - lr * group["weight_decay"]
        if not self.transformers:
            param.mul_(decay)
        mean_D.lerp_(grad_D, 1 - beta1)
        square_D.mul_(beta2).addcmul_(grad_D, grad_D, value=1 - beta2)
        if self.transformers:
            root_D = square_D.sqrt().add_(group["eps"]).div_(bias_correction(age_D, beta2).sqrt_())
        else:
            root_D = (square_D / bias_correction(age_D, beta2)).sqrt_().add_(group["eps"])
        param.addcdiv_(mean_D / bias_correction(age_D, beta1), root_D, value=-lr)
        if self.transformers:
            param.mul_(decay)

    @torch.no_grad()
    def reseed(
        self, param: torch.Tensor, slots_k: torch.Tensor, mean_k: torch.Tensor, square_k: torch.Tensor, age: int
    ) -> None:
        """Starts the weights at `slots_k` anew, as if Adam had already estimated these moments.

        Args:
            param: a parameter of this optimizer.
            slots_k: (k,) positions in the parameter.
            mean_k: (k,) estimated mean gradient.
            square_k: (k,) estimated mean squared gradient.
            age: steps the estimates were taken over.
        """
        groups = [g for g in self.param_groups if any(p is param for p in g["params"])]
        assert len(groups) == 1, "the parameter is not in this optimizer"
        beta1, beta2 = groups[0]["betas"]
        state = self._state(param)
        state["exp_avg"][slots_k] = mean_k.to(param.dtype) * (1 - beta1**age)
        state["exp_avg_sq"][slots_k] = square_k.to(param.dtype) * (1 - beta2**age)
        state["age"].index_fill_(0, slots_k, age - self.transformers)

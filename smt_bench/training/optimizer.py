"""What moves the weights in one phase: clipping, optimizer, learning rate, and float32 copies of low-precision parameters."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from smt_bench.machine import parallel, states
from smt_bench.methods.base import Method, OptimizerSettings, ParamGroup
from smt_bench.training.instrument import UNWATCHED, Instrument


def linear_factor(step: int, steps: int, warmup: int) -> float:
    """Factor on the peak rate at step 1..steps: up to 1 over `warmup` steps, then down in a line to 0 after the last."""
    if step <= warmup:
        return step / warmup
    return (steps - step + 1) / (steps - warmup)


def linear_hf_factor(step: int, steps: int, warmup: int) -> float:
    """The same as transformers and DeepSpeed count: one step behind on the way up, so that the first step's rate is 0."""
    if step <= warmup:
        return (step - 1) / warmup
    return linear_factor(step, steps, warmup)


def cosine_factor(step: int, steps: int, warmup: int) -> float:
    """Up to 1 as `linear_factor`, then along half a cosine: 1 at the first step after the warm-up, near 0 at the last."""
    if step <= warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup - 1) / (steps - warmup)))


def constant_factor(step: int, steps: int, warmup: int) -> float:
    """Up to 1 as `linear_factor`, and there it stays."""
    return step / warmup if step <= warmup else 1.0


# What the schedules that a run may name (`records.runs.SCHEDULES`) mean: step s of S and a warm-up of w steps to a factor on the
# peak rate. "linear": s / w, so that every step moves the weights; "linear-hf": (s - 1) / w, as in transformers'
# `get_linear_schedule_with_warmup`, whose scheduler takes its first step after the optimizer's. From step w + 1 on both are
# (S - s + 1) / (S - w). "cosine": (1 + cos(pi (s - w - 1) / (S - w))) / 2 there, "constant": 1.
SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "linear": linear_factor,
    "linear-hf": linear_hf_factor,
    "cosine": cosine_factor,
    "constant": constant_factor,
}


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


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's tensors by name (references), without what else modules put into their state."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


class Updater(ABC):
    """Backward passes and updates of one phase. What is here suits gradients that lie whole in every process.

    Args:
        model: what a forward pass goes through.
        params: what trains.

    Attributes:
        optimizer: None where nothing trains.
        pieces: what trains, as far as it can be told apart (`ParamGroup.pieces`).
    """

    optimizer: torch.optim.Optimizer | None = None

    def __init__(self, model: Any, params: list[nn.Parameter]) -> None:
        self.model, self.params = model, params
        self.pieces = params

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """One backward pass; the `last` of its step or not."""
        if loss.requires_grad:  # a warm-up may only look at activations
            loss.backward()

    @contextlib.contextmanager
    def gradients(self, watched: Sequence[str]) -> Iterator[None]:
        """Within, gradients are averaged over the processes, and those of the `watched` layers' weights are whole.

        Args:
            watched: last parts of layer names.
        """
        parallel.average_gradients(self.model.parameters())
        yield

    @abstractmethod
    def step(self, factor: float, instrument: Instrument = UNWATCHED) -> torch.Tensor | float | None:
        """Clips, updates at `factor` times the peak rates, and clears the gradients.

        Returns:
            The norm of all gradients before clipping, as a tensor where it need not be known yet; None where nothing trains.
        """

    def weights(self) -> dict[str, torch.Tensor]:
        """The model's whole tensors by name (references); at least in rank 0. All processes have to call it."""
        return tensors_of(self.model)

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that resume needs besides the weights; at least in rank 0. All processes have to call it."""

    @abstractmethod
    def load_state_dict(self, state: Any) -> None:
        """Restores `state_dict`, once the parameters have their values."""

    def parameter_bytes(self) -> int:
        """Bytes of all that trains."""
        return sum(p.numel() * p.element_size() for p in self.params)

    @abstractmethod
    def state_bytes(self) -> int:
        """Bytes of optimizer state and master copies in this process."""

    def close(self) -> None:  # noqa: B027 - most hold nothing that has to be freed
        """Ends the phase."""


class FrozenUpdater(Updater):
    """A phase in which nothing trains: it only looks, and clears the gradients.

    Args:
        model: what a forward pass goes through.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, [])

    def step(self, factor: float, instrument: Instrument = UNWATCHED) -> None:
        """Clears the gradients."""
        with instrument.around("optimizer"):
            self.model.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Any) -> None:
        """Nothing; older checkpoints hold None."""

    def state_bytes(self) -> int:
        """None."""
        return 0


class TorchUpdater(Updater):
    """A torch optimizer, with master copies.

    Parameters below float32 (bf16 weights under full fine-tuning) are updated through float32 copies, since their own
    rounding step swallows small updates. The copies are updated in chunks, so that only a chunk's gradients exist in float32:
    torch's optimizers leave alone what has no gradient, and treat every number by itself.

    Args:
        model: what a forward pass goes through.
        method: builds the optimizer.
        groups: what trains.
        settings: peak rate, betas, eps, default weight decay.
        max_grad_norm: limit of the gradients' norm.
    """

    optimizer: torch.optim.Optimizer

    def __init__(
        self, model: Any, method: Method, groups: list[ParamGroup], settings: OptimizerSettings, max_grad_norm: float
    ) -> None:
        super().__init__(model, [p for group in groups for p in group.params])
        self.max_grad_norm = max_grad_norm
        self.pieces = [p for group in groups for p in group.pieces or group.params]
        self._masters: list[tuple[nn.Parameter, nn.Parameter]] = []
        params = [[self._master(p) for p in group.params] for group in groups]
        self.optimizer = method.optimizer(torch_groups(groups, params, settings), settings)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        mastered = {id(parameter) for parameter, _ in self._masters}
        self._plain = [p for p in self.params if id(p) not in mastered]

    def _master(self, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.dtype not in (torch.bfloat16, torch.float16):
            return parameter
        master = nn.Parameter(parameter.detach().float())
        self._masters.append((parameter, master))
        return master

    def step(self, factor: float, instrument: Instrument = UNWATCHED) -> torch.Tensor:
        """Clips, updates and clears."""
        with instrument.around("clip"):
            norm: torch.Tensor = torch.nn.utils.clip_grad_norm_(self.pieces, self.max_grad_norm)
        with instrument.around("optimizer"):
            self._update(factor)
        return norm

    def _update(self, factor: float) -> None:
        for group, peak in zip(self.optimizer.param_groups, self._peaks):
            group["lr"] = peak * factor
        for chunk in self._chunks() or [[]]:
            for parameter, master in chunk:
                master.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
            self.optimizer.step()
            with torch.no_grad():
                for parameter, master in chunk:
                    parameter.copy_(master)
                    master.grad = None
            for parameter in self._plain:  # updated with the first chunk
                parameter.grad = None

    def _chunks(self) -> list[list[tuple[nn.Parameter, nn.Parameter]]]:
        """The master copies with what they are of, `states.CHUNK` numbers or a single one at a time."""
        chunks: list[list[tuple[nn.Parameter, nn.Parameter]]] = []
        held = states.CHUNK
        for pair in self._masters:
            if held + pair[1].numel() > states.CHUNK:
                chunks.append([])
                held = 0
            chunks[-1].append(pair)
            held += pair[1].numel()
        return chunks

    def state_dict(self) -> dict[str, Any]:
        """Optimizer state and master copies (references)."""
        return {"optimizer": self.optimizer.state_dict(), "masters": [master.detach() for _, master in self._masters]}

    def load_state_dict(self, state: Any) -> None:
        """Restores `state_dict`, once the parameters have their values."""
        self.optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            for (_, master), value in zip(self._masters, state["masters"], strict=True):
                master.copy_(value)

    def state_bytes(self) -> int:
        """Moments, counters and master copies."""
        tensors = [t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
        tensors += [master for _, master in self._masters]
        return sum(t.numel() * t.element_size() for t in tensors)

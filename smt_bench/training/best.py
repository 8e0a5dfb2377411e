"""The best weights of a run: looked at every so many steps, kept where the held-out loss is the lowest, put back at the end.

As the scripts of LLM-Adapters, DoRA and SMT do it (`load_best_model_at_end`; the least validation loss of every 30 steps), but
only the part of the held-out examples that choices are made by is looked at. Looking starts once the method is attached: what a
dense warm-up leaves is not yet the method's. What is kept is what differs from the start of tuning, on the CPU, and the
method's own state: the trained numbers of most methods, whole matrices of those that write into them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import Method
from smt_bench.training.optimizer import tensors_of
from smt_bench.training.resume import copy_into, fingerprints, pack, unpack_method


class Best:
    """The best weights so far of one run.

    Args:
        every: steps between two looks.
        steps: of the run; the last is looked at too.
        judge: the loss to choose by (nats per response token) of the model as it is; the same in every process.
    """

    def __init__(self, every: int, steps: int, judge: Callable[[], float]) -> None:
        self.every, self.steps, self.judge = every, steps, judge
        self.looks: list[tuple[int, float]] = []
        self._kept: dict[str, torch.Tensor] = {}
        self._method = torch.empty(0, dtype=torch.uint8)
        self._described: dict[str, Any] = {}
        self._prints: dict[str, str] = {}
        self._start: dict[str, str] = {}

    @property
    def step(self) -> int | None:
        """The step whose weights are kept: the first with the lowest loss; None before any look gave a number."""
        numbers = [(loss, step) for step, loss in self.looks if math.isfinite(loss)]
        return min(numbers)[1] if numbers else None

    def begin(self, model: nn.Module) -> None:
        """Notes the weights that tuning starts from, its trainables in place."""
        self._start = fingerprints(tensors_of(model))

    def due(self, step: int) -> bool:
        """Whether to look after this step."""
        return step % self.every == 0 or step == self.steps

    def look(self, step: int, model: nn.Module, method: Method) -> None:
        """Judges the weights after `step` and keeps them if none were better."""
        self.looks.append((step, self.judge()))
        if self.step != step:
            return
        tensors = tensors_of(model)
        prints = fingerprints(tensors)
        self._prints = prints
        always = {*self._kept, *(name for name, p in model.named_parameters() if p.requires_grad)}
        changed = [name for name in tensors if prints[name] != self._start.get(name) or name in always]
        self._kept = {name: tensors[name].detach().to("cpu", copy=True) for name in changed}
        self._method, self._described = pack(method.state_dict()), method.describe()

    def put_back(self, model: nn.Module, method: Method) -> None:
        """The best weights into the model and their state into the method; nothing where they are the last or there are none.

        Raises:
            RuntimeError: the weights are not bit by bit those that were judged.
        """
        if self.step is None or self.step == self.looks[-1][0]:
            return
        # A method that writes into frozen weights first undoes what it wrote since, then writes what it had written by then.
        method.load_state_dict(unpack_method({"method": self._method}))
        copy_into(model, self._kept)
        method.load_state_dict(unpack_method({"method": self._method}))
        now = fingerprints(tensors_of(model))
        other = [name for name in now if now[name] != self._prints[name]]
        if other:
            raise RuntimeError(
                f"--select best: {other[0]} is not what it was at step {self.step}: choose --select last"
            )

    def describe(self, method: Method) -> dict[str, Any]:
        """What the method had decided at the best step."""
        return self._described if self.step is not None else method.describe()

    def result(self) -> dict[str, Any]:
        """For the record: steps looked at, their losses, and the step whose weights were judged."""
        return {
            "steps": [step for step, _ in self.looks],
            "nll": [round(loss, 6) if math.isfinite(loss) else None for _, loss in self.looks],
            "kept": self.looks[-1][0] if self.step is None else self.step,
        }

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs (references)."""
        return {
            "looks": self.looks,
            "kept": self._kept,
            "prints": self._prints,
            "method": self._method,
            "described": self._described,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.looks = [(step, loss) for step, loss in state["looks"]]
        self._kept, self._prints = state["kept"], state["prints"]
        self._method, self._described = state["method"], state["described"]

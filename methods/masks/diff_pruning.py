"""Diff pruning: a difference to every weight is learnt through a gate that is pulled to 0 (Guo et al., 2021,
"Parameter-Efficient Transfer Learning with Diff Pruning").

    1. train w and a of  W = W0 + z * w,  z ~ hard concrete(a)  (`relaxed`), with lambda E[number of z that are not 0] in the loss
    2. M = 1 at the largest |z * w|, over all matrices together
    3. train  W0 + M * delta,  delta = w at first

The third step begins where the first has left w, as in the commands that the authors give (`run_glue_fixmask_finetune.py
--finetune 1`).

Deviations / decisions:
    - One gate per weight, the paper's diff pruning without structure. Its structured variant, the default of their code, has one
      more per matrix.
    - The authors gate embeddings and norms too, and train the classifier's head whole; here the targets, from which it chooses.
    - They prune by the last gates drawn; here by those without noise, so that chance does not decide. Where fewer gates are open
      than deltas are asked for, the rest are those nearest to open, |w| sigmoid(a).
    - Both rounds count as steps of the run: `warmup_share` of them are the first. The authors give both rounds the same length.
    - The second round has a learning-rate schedule of its own, as theirs; the first follows the run's, for w and a alike. The
      authors keep the rate of a where it is: their code makes a schedule for it and never steps it.
    - A step has one draw for all its micro-batches, so that their size decides nothing. Devices draw differently.
    - Gradients of w and a are clipped together, as all gradients here; theirs apart.
    - Nearly all gates start at exactly 1, where the loss has no slope and the penalty's, 8e-10, is a tenth of Adam's epsilon: an
      unused gate takes 170 steps to close, more than a short round has. The recipe's epsilon is below that slope, and it takes
      45. What keeps a gate open is a slope of lambda against it, with either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from smt_bench.methods.base import OptimizerSettings, ParamGroup, Shapes
from smt_bench.methods.masks.choice import Made, largest
from smt_bench.methods.masks.relaxed import GatedLinear, gates, penalty_gradient
from smt_bench.methods.masks.rounds import RoundsConfig, RoundsMask
from smt_bench.methods.modules import freeze, has_values, linears, replace_module
from smt_bench.methods.search import Span
from smt_bench.methods.settings import setting


@dataclass(frozen=True)
class DiffPruningConfig(RoundsConfig):
    """Diff pruning's settings; those of the gates are the values of the authors' code.

    Attributes:
        gate_lr: peak learning rate of the gates' logits.
        gate_eps: Adam's epsilon for them.
        gate_logit: of all gates at first: sigmoid(5) = 0.993.
        penalty: lambda, in nats per gate.
    """

    gate_lr: float = setting(0.1, above=0)
    gate_eps: float = setting(1e-8, above=0)
    gate_logit: float = 5.0
    penalty: float = setting(1.25e-7, at_least=0)


def _gated(w_OI: torch.Tensor, a_OI: torch.Tensor) -> torch.Tensor:
    return (w_OI * gates(a_OI)[0]).abs()


def _closed(w_OI: torch.Tensor, a_OI: torch.Tensor) -> torch.Tensor:
    score_OI = w_OI.abs() * torch.sigmoid(a_OI)
    return score_OI.masked_fill(_gated(w_OI, a_OI) > 0, 0)


class DiffPruning(RoundsMask[DiffPruningConfig]):
    """Trains the weights whose gated differences came out largest."""

    name = "diff-pruning"
    version = 1
    summary = "Diff pruning: the weights with the largest differences under learnt gates, which go on from there"
    title = "DiffPruning"
    look = ("#332288", "P")
    order = 26
    round_bytes = 32  # difference and logit: float32 values, gradients and two moments each
    Config = DiffPruningConfig

    @classmethod
    def recipe(cls, steps: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """As for all such masks, and gates that can close in a short run."""
        return super().recipe(steps, {"gate_eps": 1e-10, **given})

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """The first round's length, and what pulls gates to 0 in it."""
        return {"warmup_share": Span(0.3, 0.7, log=False), "penalty": Span(1e-8, 1e-5)}

    def __init__(self, config: DiffPruningConfig, fraction: float | None, seed: int, steps: int) -> None:
        self._layers: dict[str, tuple[nn.Linear, GatedLinear]] = {}
        self._learnt: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._starts: dict[str, torch.Tensor] = {}
        self._seen = 0
        self._told: dict[str, Any] = {"gates_open": None, "deltas_of_closed_gates": None}
        super().__init__(config, fraction, seed, steps)

    @property
    def half(self) -> str:
        """Everything that trains is float32."""
        return "float32 deltas and gradients; first round: float32 differences and gates"

    def warmup(self, model: nn.Module) -> list[ParamGroup]:
        """Puts gated layers into the model."""
        freeze(model)
        for place, (name, linear) in enumerate(linears(model, self.config.targets)):
            layer = GatedLinear(linear, self.config.gate_logit, self._noise(place))
            self._layers[name] = linear, layer
            replace_module(model, name, layer)
        layers = [layer for _, layer in self._layers.values()]
        return [
            ParamGroup([layer.values for layer in layers], lr_scale=self.config.warmup_lr_scale),
            ParamGroup([layer.logits for layer in layers], weight_decay=0.0),
        ]

    def _noise(self, place: int) -> Callable[[], int]:
        # A stream per step and layer: nothing has to be kept for resume but the step.
        return lambda: ((self.seed * 1_000_003 + place) * 1_000_003 + self._seen) % 2**63

    def optimizer(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """AdamW; in the first round with the gates' own rate and epsilon."""
        logits = {id(layer.logits) for _, layer in self._layers.values()}
        for group in groups:
            if logits and id(group["params"][0]) in logits:
                group |= {"lr": self.config.gate_lr, "eps": self.config.gate_eps}
        return super().optimizer(groups, settings)

    def observe(self, model: nn.Module, step: int) -> None:
        """Adds the penalty's gradient to that of the loss."""
        self._seen = step
        for _, layer in self._layers.values():
            pull_OI = self.config.penalty * penalty_gradient(layer.logits.detach())
            layer.logits.grad = pull_OI if layer.logits.grad is None else layer.logits.grad.add_(pull_OI)

    def settle(self, model: nn.Module) -> None:
        """Takes the gated layers out, and keeps what they have learnt."""
        for name, (linear, layer) in self._layers.items():
            replace_module(model, name, linear)
            self._learnt[name] = layer.values.detach(), layer.logits.detach()
        self._layers = {}

    def choose(self, linears: Mapping[str, nn.Linear], shapes: Shapes) -> dict[str, torch.Tensor]:
        """The largest differences over all matrices together; of closed gates only what open ones do not fill."""
        units = self.capacity(shapes).units
        learnt = {name: self._learnt[name] for name in linears}
        gated, closed = (Made(learnt, lambda n, s=s: s(*learnt[n])) for s in (_gated, _closed))  # type: ignore[misc]
        if all(has_values(w_OI) for w_OI, _ in learnt.values()):
            held = sum(w_OI.numel() for w_OI, _ in learnt.values())
            passed = sum(int((gates(a_OI)[0] > 0).sum()) for _, a_OI in learnt.values())
            filled = min(units, sum(int((gated[name] > 0).sum()) for name in gated))
            self._told = {"gates_open": passed / held, "deltas_of_closed_gates": units - filled}
        else:
            filled = units
        parts = [largest(scores, count) for scores, count in ((gated, filled), (closed, units - filled)) if count]
        found = {
            name: torch.cat([part[name] for part in parts if name in part]).sort().values
            for name in linears
            if any(name in part for part in parts)
        }
        self._starts = {name: learnt[name][0].flatten()[places_D] for name, places_D in found.items()}
        self._learnt = {}
        return found

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """As all masks; the deltas begin as what was learnt of them."""
        groups = super().attach(model)
        assert self._deltas is not None
        with torch.no_grad():
            for name, start_D in self._starts.items():
                self._deltas.layers[name].deltas.copy_(start_D)
        if self._starts:
            self._deltas.write()
        self._starts = {}
        return groups

    def describe(self) -> dict[str, Any]:
        """As all masks; the share of gates that were not 0 in the end, and how many deltas are of gates that were."""
        return {**super().describe(), **self._told}

    def state_dict(self) -> dict[str, Any]:
        """How far the first round is, or what it led to."""
        return {**super().state_dict(), "seen": self._seen, "told": self._told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        super().load_state_dict(state)
        self._seen, self._told = state["seen"], dict(state["told"])

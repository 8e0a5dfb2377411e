"""SpIEL-AG: sparse fine-tuning whose indices move (Ansell et al., 2024, sections 3.1 and 3.2, appendix C).

Each targeted matrix i has a fixed number of deltas d_i at indices eta_i, at the same density in every matrix (footnote
2), random at first. At an update, k_i of them are replaced (equation 8):

    k_i(t) = d_i                            at the first update, t = gamma
    k_i(t) = floor(xi (T - t) / T * d_i)    at the later ones

DROP takes the weights with the smallest |delta| and resets them to their pretrained values. GROW takes, among K_i = d_i
candidates, those with the largest |mean gradient| over the gamma steps up to the update (equation 7); the candidates
are the inactive weights with the largest gradients in the first batch of these steps. Grown weights start at delta 0
with Adam moments seeded from the same steps (`optim.py`). Beyond the model, memory is a few numbers per delta; dense
gradients and magnitudes exist for one matrix at a time, inside its backward pass.

Shapes: O outputs, I inputs, D deltas (d_i) and K candidates (K_i) of one matrix, k replaced; T is the run's steps.

Deviations / decisions:
    - DROP: the text has |delta|, algorithm 1 has |delta - delta at the last update|. We follow the text: the second
      would drop large deltas that have settled.
    - Updates: at gamma, then at those multiples of S whose estimation phase starts after gamma, so that phases never
      overlap (only matters where gamma > S/2). Algorithm 1's "gamma divides t" contradicts "every S steps". No update
      at t = T, where k is 0; hence a run of T <= gamma steps keeps its random indices.
    - Candidates come from the first backward pass of the phase: with gradient accumulation that is the first
      micro-batch; with data parallelism its gradient is averaged over the processes (one dense all-reduce per matrix
      and phase), since all of them must pick the same. Sharded weights (FSDP, ZeRO-3) are not supported.
    - Weights active in a phase are never candidates, so an update cannot regrow what it dropped.
    - At most half of a matrix can be active: beyond, d_i candidates do not exist and equation 8's full replacement is
      impossible. Such a fraction is refused.
    - The estimates use gradients before clipping, which in the optimizer scales the active ones. A loss scaler (fp16)
      would scale the estimates too: use bfloat16 or float32.
    - The dense weight holds base + delta in the model's dtype; deltas, estimates and Adam's state are float32, and so are the
      gradients that reach them. All deltas of a device are one parameter; a layer that takes no part in a step has zeros there.
    - `weight_decay` is the paper's lambda; it found 30 best for SpIEL-AG (table 4, at learning rate 1e-4 for 7B).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from smt_bench.methods.base import Capacity, Method, MethodConfig, OptimizerSettings, ParamGroup, Shapes
from smt_bench.methods.deltas import Candidates, SpielLinear
from smt_bench.methods.flat import Flat
from smt_bench.methods.modules import total_parameters
from smt_bench.methods.search import Span
from smt_bench.methods.settings import setting
from smt_bench.methods.sparse import Deltas, even_counts, kernels_left, linear_layers, scattered
from smt_bench.methods.spiel.optim import SpielAdamW
from smt_bench.methods.spiel.selection import is_update, replaced
from smt_bench.methods.spiel.write import WriteBack


@dataclass(frozen=True)
class SpielConfig(MethodConfig):
    """SpIEL-AG's settings, the paper's values by default.

    Attributes:
        targets: linear layers to tune.
        update_every: S, steps between updates of the indices.
        estimate_steps: gamma, steps of the gradient estimation phase before each update.
        replace_rate: xi, share of the deltas replaced per update, extrapolated to step 0.
        weight_decay: lambda, decoupled, on the deltas; overrides the run's.
    """

    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    update_every: int = setting(20, at_least=1)
    estimate_steps: int = setting(5, at_least=1)
    replace_rate: float = setting(0.2, at_least=0, at_most=1)
    weight_decay: float = setting(0.0, at_least=0)

    @property
    def layers(self) -> tuple[str, ...]:
        """The targets."""
        return self.targets

    def with_layers(self, layers: tuple[str, ...]) -> Self:
        """With other targets."""
        return replace(self, targets=layers)


class Spiel(Method[SpielConfig]):
    """SpIEL-AG behind the Method contract."""

    name: ClassVar[str] = "spiel"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "SpIEL-AG: sparse deltas; the smallest are dropped, high-gradient weights grown"
    title: ClassVar[str] = "SpIEL"
    look: ClassVar[tuple[str, str] | None] = ("#009E73", "s")
    order: ClassVar[int] = 20
    Config: ClassVar[type[MethodConfig]] = SpielConfig

    @classmethod
    def recipe(cls, steps: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """The paper's interval of 20 steps between updates; short runs keep about five updates."""
        every = min(20, max(2, steps // 5))
        return {"update_every": every, "estimate_steps": min(5, max(1, every // 2)), **given}

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """The interval between updates, not shorter than the usual estimation phase, and the decay of the deltas."""
        shortest = int(cls.recipe(steps, {})["estimate_steps"])
        return {
            "update_every": Span(shortest, max(shortest, steps // 3), whole=True),
            "weight_decay": Span(0.01, 30.0),
        }

    def __init__(self, config: SpielConfig, fraction: float | None, seed: int, steps: int) -> None:
        super().__init__(config, fraction, seed, steps)
        self.layers: dict[str, SpielLinear] = {}
        self._restored: dict[str, Any] | None = None
        self._deltas: Deltas | None = None
        self._optimizer: SpielAdamW | None = None
        self._flat: Flat | None = None
        self._write_back: WriteBack | None = None
        self._stale = False
        self._histogram: dict[str, int] = {}
        self.updates = self.replaced = self.step = 0

    def check(self) -> None:
        """Refuses settings that are wrong for every model."""
        c = self.config
        if self.fraction is None or not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}: choose trainable numbers / all parameters, e.g. 0.01")
        if c.estimate_steps > c.update_every:
            raise ValueError(f"estimate_steps={c.estimate_steps}: choose 1 to update_every={c.update_every}")

    def _counts(self, shapes: Shapes) -> dict[str, int]:
        """Deltas per matrix."""
        assert self.fraction is not None
        return even_counts(self.fraction, shapes, self.config.targets, spare=True)

    def capacity(self, shapes: Shapes) -> Capacity:
        """The fraction as a number of deltas."""
        deltas = sum(self._counts(shapes).values())
        return Capacity("deltas", deltas, deltas, 1, total_parameters(shapes))

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Wraps the targeted layers with deltas at random indices."""
        counts = self._counts({name: tuple(p.shape) for name, p in model.named_parameters()})
        linears = linear_layers(model, counts)
        self._deltas = Deltas(model, linears, counts, scattered(counts, linears, self.seed), self.average)
        self.layers, self._flat, self._write_back = self._deltas.layers, self._deltas.flat, self._deltas.write
        if self._restored is not None:
            state, self._restored = self._restored, None
            self.load_state_dict(state)
        return [self._deltas.group(self.config.weight_decay)]

    def optimizer(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """AdamW with an age per weight."""
        self._optimizer = SpielAdamW(groups, settings.lr, settings.betas, settings.eps, settings.weight_decay)
        return self._optimizer

    def phase(self, step: int) -> int:
        """Position of the step in its estimation phase, 1 to gamma; 0 outside."""
        c = self.config
        for ahead in range(c.estimate_steps):
            if is_update(step + ahead, c.update_every, c.estimate_steps, self.steps):
                return c.estimate_steps - ahead
        return 0

    def before_step(self, model: nn.Module, step: int) -> None:
        """Starts or continues an estimation phase."""
        assert self._flat is not None and self._write_back is not None
        position = self.phase(step)
        for layer in self.layers.values():
            layer.collecting = position > 0
            if position <= 1:
                layer.candidates = None
        if self._stale:
            self._write_back()
        self._stale = False
        self._flat.clear_gradients()

    def after_backward(self, model: nn.Module, step: int) -> None:
        """Adds the step's gradients at the candidates to the phase's sums."""
        assert self._flat is not None
        for layer in self.layers.values():
            if layer.collecting and layer.candidates is not None:
                layer.candidates.fold(self.average)
        self._flat.publish_gradients()

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Writes the deltas into the weights; at an update drops and grows."""
        assert self._flat is not None and self._write_back is not None
        self.step = step
        self._write_back()
        c = self.config
        if not is_update(step, c.update_every, c.estimate_steps, self.steps):
            return
        while not isinstance(optimizer, SpielAdamW):  # accelerate hands over a wrapper
            optimizer = optimizer.optimizer  # type: ignore[attr-defined]
        for layer in self.layers.values():
            if layer.candidates is None:  # the layer took no part in the forward passes
                continue
            k = replaced(step, len(layer.deltas), c.replace_rate, c.estimate_steps, self.steps)
            slots_k, mean_k, square_k = layer.replace(k, c.estimate_steps)
            whole, first = self._flat.whole_of(layer.deltas)
            optimizer.reseed(whole, slots_k + first, mean_k, square_k, age=c.estimate_steps)
            self.replaced += len(slots_k)
        self.updates += 1

    def merge(self, model: nn.Module) -> None:
        """Puts the original layers back; their weights already hold the deltas."""
        self._histogram = self._ages()
        if self._deltas is not None:
            self._deltas.merge(model)
        self.layers, self._deltas, self._optimizer = {}, None, None
        self._flat = self._write_back = None

    def _ages(self) -> dict[str, int]:
        """Deltas by the step at which they were last grown (the paper's figure 2).

        A weight grown at step u has age gamma + (t - u), so the age tells u.
        """
        if self._optimizer is None:
            return self._histogram
        counts: Counter[int] = Counter()
        for whole in self._flat.parameters if self._flat is not None else ():
            if whole in self._optimizer.state:
                ages, numbers = self._optimizer.state[whole]["age"].unique(return_counts=True)
                counts.update({int(age): int(number) for age, number in zip(ages.tolist(), numbers.tolist())})
        offset = self.step + self.config.estimate_steps if self.updates else self.step
        return {str(offset - age): counts[age] for age in sorted(counts, reverse=True)}

    def describe(self) -> dict[str, Any]:
        """Updates so far, weights replaced in them, and deltas by the step they were last grown (0: no update yet)."""
        return {"updates": self.updates, "replaced": self.replaced, "age_histogram": self._ages()}

    @property
    def half(self) -> str:
        """Deltas, their gradients and the estimates are float32."""
        return "float32 deltas, gradients and estimates"

    def ran(self) -> dict[str, Any]:
        """Kernels that were left, with reasons."""
        return kernels_left()

    def state_dict(self) -> dict[str, Any]:
        """Counters and, per matrix, its indices, pretrained values there and running estimates (references)."""
        matrices = {}
        for name, layer in self.layers.items():
            found = layer.candidates
            matrices[name] = {
                "indices": layer.indices,
                "base": layer.base,
                "candidates": None if found is None else dict(vars(found)),
            }
        return {"updates": self.updates, "replaced": self.replaced, "step": self.step, "matrices": matrices}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`, before `attach` or after it, before or after the parameters are loaded.

        The model may hold the checkpoint's dense weights or the pretrained ones; both lead to the same weights.

        Raises:
            ValueError: the state is of other matrices.
        """
        if not self.layers:
            self._restored = state
            return
        if set(state["matrices"]) != set(self.layers):
            raise ValueError(f"state of {len(state['matrices'])} matrices: attach the same targets and fraction")
        self.updates, self.replaced, self.step = state["updates"], state["replaced"], state["step"]
        for name, layer in self.layers.items():
            saved = state["matrices"][name]
            layer.select(saved["indices"], saved["base"])
            found = saved["candidates"]
            device = layer.weight.device
            layer.candidates = found and Candidates(**{k: v.to(device, copy=True) for k, v in found.items()})
        self._stale = True  # deltas loaded after this call still have to reach the weights


__all__ = ["Spiel", "SpielAdamW", "SpielConfig"]

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
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from smt_bench.methods.base import Capacity, Method, MethodConfig, OptimizerSettings, ParamGroup, Shapes
from smt_bench.methods.deltas import Candidates, SpielLinear
from smt_bench.methods.flat import Flat
from smt_bench.methods.modules import has_values, total_parameters
from smt_bench.methods.sampled import tried
from smt_bench.methods.search import Span
from smt_bench.methods.sparse import Deltas, even_counts, kernels_left, linear_layers, scattered
from smt_bench.methods.spiel.config import ScheduleConfig, SpielConfig
from smt_bench.methods.spiel.optim import SpielAdamW
from smt_bench.methods.spiel.selection import estimated, is_update, replaced
from smt_bench.methods.spiel.write import WriteBack

AUTHORS_EPS = 1e-6


class Spiel(Method[ScheduleConfig]):
    """SpIEL-AG behind the Method contract."""

    name: ClassVar[str] = "spiel"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "SpIEL-AG: sparse deltas; the smallest are dropped, high-gradient weights grown"
    title: ClassVar[str] = "SpIEL"
    look: ClassVar[tuple[str, str] | None] = ("#009E73", "s")
    order: ClassVar[int] = 20
    Config: ClassVar[type[MethodConfig]] = SpielConfig
    decays: ClassVar[tuple[float, float]] = (0.01, 30.0)  # searched
    # Delta, gradient, two moments, age: 20; index 8, base value 4; of a candidate index 8 and two sums, one of each being shared.
    bytes_per_number: ClassVar[int] = 44

    @classmethod
    def recipe(cls, steps: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """The interval that is given, or the paper's 20 steps between updates; short runs keep about five updates."""
        every = min(given.get("update_every", 20), max(2, steps // 5))
        phase = min(given.get("estimate_steps", 5), max(1, every // 2))
        return {**given, "update_every": every, "estimate_steps": phase}

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """The interval between updates, not shorter than the usual estimation phase, and the decay of the deltas."""
        shortest = int(cls.recipe(steps, {})["estimate_steps"])
        return {
            "update_every": Span(shortest, max(shortest, steps // 3), whole=True),
            "weight_decay": Span(cls.decays[0], cls.decays[1]),
        }

    def __init__(self, config: ScheduleConfig, fraction: float | None, seed: int, steps: int) -> None:
        super().__init__(config, fraction, seed, steps)
        self.layers: dict[str, SpielLinear] = {}
        self._restored: dict[str, Any] | None = None
        self._deltas: Deltas | None = None
        self._optimizer: SpielAdamW | None = None
        self._flat: Flat | None = None
        self._write_back: WriteBack | None = None
        self._stale = False
        # Per layer (D,), for the record alone: never on a device, and no tensor that an account of memory would find.
        self._born: dict[str, np.ndarray[Any, np.dtype[np.int32]]] = {}
        self.updates = self.replaced = self.step = 0

    def check(self) -> None:
        """Refuses settings that are wrong for every model."""
        c = self.config
        if self.fraction is None or not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction}: choose trainable numbers / all parameters, e.g. 0.01")
        most = c.update_every - c.offset
        if c.estimate_steps > most:
            raise ValueError(
                f"estimate_steps={c.estimate_steps}: choose 1 to {most} with update_every={c.update_every}"
            )

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
        for name, layer in self.layers.items():
            layer.regrow, layer.sampled = self.regrows, self.config.gradient == "sampled"
            if layer.sampled:
                tried(layer.weight.device, layer.weight.dtype)
            self._born[name] = np.zeros(len(layer.deltas), dtype=np.int32)
        if self._restored is not None:
            state, self._restored = self._restored, None
            self.load_state_dict(state)
        return [self._deltas.group(self.config.weight_decay)]

    @property
    def regrows(self) -> bool:
        """Whether an update may grow what it drops."""
        return isinstance(self.config, SpielConfig) and self.config.candidates == "any"

    def optimizer(self, groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
        """AdamW with an age per weight."""
        theirs = isinstance(self.config, SpielConfig) and self.config.adam == "transformers"
        eps = AUTHORS_EPS if theirs else settings.eps
        self._optimizer = SpielAdamW(groups, settings.lr, settings.betas, eps, settings.weight_decay, theirs)
        return self._optimizer

    def phase(self, step: int) -> int:
        """Position of the step in its estimation phase, 1 to gamma; 0 outside."""
        for ahead in range(self.config.estimate_steps + 1):
            length = self._estimated(step + ahead)
            if self._is_update(step + ahead) and ahead < length:
                return length - ahead
        return 0

    def _is_update(self, step: int) -> bool:
        c = self.config
        return is_update(step, c.update_every, c.estimate_steps, self.steps, c.offset)

    def _estimated(self, step: int) -> int:
        return estimated(step, self.config.estimate_steps, self.config.offset)

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
        if not self._is_update(step):
            return
        counts = {
            name: replaced(step, len(layer.deltas), c.replace_rate, c.estimate_steps, self.steps, c.rates == "cosine")
            for name, layer in self.layers.items()
        }
        self.replaced += self.drop_and_grow(counts)
        self.updates += 1

    def drop_and_grow(self, counts: Mapping[str, int]) -> int:
        """Moves up to so many deltas of each layer; returns how many in all."""
        assert self._flat is not None and self._optimizer is not None
        phase, moved = self._estimated(self.step), 0
        for name, layer in self.layers.items():
            if layer.candidates is None:  # the layer took no part in the forward passes
                continue
            slots_k, mean_k, square_k = layer.replace(counts[name], phase)
            whole, first = self._flat.whole_of(layer.deltas)
            self._optimizer.reseed(whole, slots_k + first, mean_k, square_k, age=phase)
            self._grown(name, slots_k)
            moved += len(slots_k)
        return moved

    def merge(self, model: nn.Module) -> None:
        """Puts the original layers back; their weights already hold the deltas."""
        if self._deltas is not None:
            self._deltas.merge(model)
        self.layers, self._deltas, self._optimizer = {}, None, None
        self._flat = self._write_back = None

    def _grown(self, name: str, slots_k: torch.Tensor) -> None:
        """Notes that the deltas at these slots are of this step."""
        if has_values(slots_k):
            self._born[name][slots_k.cpu().numpy()] = self.step

    def _ages(self) -> dict[str, int]:
        """Deltas by the step at which they were last grown (the paper's figure 2)."""
        counts: Counter[int] = Counter()
        for born_D in self._born.values():
            steps, numbers = np.unique(born_D, return_counts=True)
            counts.update(dict(zip(steps.tolist(), numbers.tolist())))
        return {str(step): counts[step] for step in sorted(counts)}

    def describe(self) -> dict[str, Any]:
        """Updates so far, weights replaced in them, and deltas by the step they were last grown (0: no update yet)."""
        return {"updates": self.updates, "replaced": self.replaced, "age_histogram": self._ages()}

    @property
    def whole_base(self) -> None:
        """Pretrained values of the deltas are what is read of the base."""

    @property
    def half(self) -> str:
        """Deltas, their gradients and the estimates are float32."""
        return "float32 deltas, gradients and estimates"

    def ran(self) -> dict[str, Any]:
        """Kernels that were left, with reasons."""
        return kernels_left()

    def state_dict(self) -> dict[str, Any]:
        """Counters, when deltas were grown and, per matrix, its indices, pretrained values there and estimates (references)."""
        matrices = {}
        for name, layer in self.layers.items():
            found = layer.candidates
            matrices[name] = {
                "indices": layer.indices,
                "base": layer.base,
                "candidates": None if found is None else dict(vars(found)),
            }
        counters = {"updates": self.updates, "replaced": self.replaced, "step": self.step}
        return {
            **counters,
            "matrices": matrices,
            "born": {name: torch.from_numpy(born_D) for name, born_D in self._born.items()},
        }

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
        self._born = {name: born_D.cpu().numpy().copy() for name, born_D in state["born"].items()}
        self._stale = True  # deltas loaded after this call still have to reach the weights


__all__ = ["Spiel", "SpielAdamW", "SpielConfig"]

"""SMT, sparse matrix tuning (ICLR 2025): warm up, score l x l blocks of Q, K and V, then train the best blocks only.

The way of a run (section 3): the first `warmup_steps` steps train all parameters (`warmup_trains`) while gradients of
the allowed matrices are summed up; the n blocks with the highest score over all of them are chosen; every other number
is frozen for the rest of the run.

Decisions where the paper is ambiguous:
- The text ranks "average absolute gradient", its table 7 and its code `mean().abs()` of the summed signed gradient. The
  default metric is the latter, `mean_abs`.
- Nothing is restored after the warm-up: tuning starts from the moved weights, with fresh optimizer moments. The text says
  nothing of the learning rate: by default the run's schedule goes on, `schedule="fresh"` begins another one, as the released
  code does (`smt_lr_warmup_steps` 0). On math, with 25 steps before selection and a rate that rises for 100, tuning starts at
  26 % of its rate in one case and at all of it in the other.
- Activation norms (AW-selection) are taken over all positions of the padded batches; a method sees no masks. Appendix B.2
  selects single channels, i.e. columns of W: `activation_channels`. `activation` ranks whole columns of blocks by the mean of
  their channels: ours; table 8's rows were chosen so before there was the other.
- `warmup_lr_scale` multiplies the learning rate during the dense warm-up, because a rate right for 1 % of the numbers
  is far too high for all of them. 1.0 is the paper's description.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from smt_bench.methods import guarded
from smt_bench.methods.base import MASTERS, Capacity, Method, ParamGroup, Shapes
from smt_bench.methods.flat import Flat
from smt_bench.methods.modules import apportion, freeze, linears, replace_module, total_parameters
from smt_bench.methods.roles import matches, role
from smt_bench.methods.search import Span
from smt_bench.methods.smt.collect import Collector, needs_gradients
from smt_bench.methods.smt.config import SmtConfig
from smt_bench.methods.smt.gradients import FUSED, way
from smt_bench.methods.smt.install import WRITE, WriteBack, sparse_layers
from smt_bench.methods.smt.layer import SparseLinear
from smt_bench.methods.smt.selection import (
    CHANNELS,
    Selection,
    channel_grid,
    grid,
    select,
)


class Smt(Method[SmtConfig]):
    """Trains the blocks that the warm-up's statistics point at."""

    name = "smt"
    version = 2
    summary = "sparse l x l blocks of Q, K, V, chosen by warm-up gradients"
    title = "SMT"
    look = ("#D55E00", "o")
    order = 40
    Config = SmtConfig
    over_nf4 = {"warmup_trains": False}

    @classmethod
    def recipe(cls, steps: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """A warm-up of the steps given, at most a quarter of the run; or of a share of the run, given as `warmup_share`."""
        settings = dict(given)
        share = settings.pop("warmup_share", None)
        wanted = settings.get("warmup_steps", SmtConfig.warmup_steps)
        warmup = min(wanted, steps // 4) if share is None else round(share * steps)
        return {**settings, "warmup_steps": max(1, warmup)}

    @classmethod
    def search(cls, steps: int) -> dict[str, Span]:
        """The rate of the warm-up against that of tuning, and how long it is."""
        return {
            "warmup_lr_scale": Span(0.03, 1.0),
            "warmup_steps": Span(1, max(1, steps // 8), whole=True),
        }

    def __init__(self, config: SmtConfig, fraction: float | None, seed: int, steps: int) -> None:
        super().__init__(config, fraction, seed, steps)
        self.selection: Selection = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._observed = 0
        self._collector: Collector | None = None
        self._layers: dict[str, SparseLinear] = {}
        self._flat: Flat | None = None
        self._write_back: WriteBack | None = None
        self._ways: list[str] = []

    def check(self) -> None:
        """Refuses shares that are none of the whole, and warm-ups that leave nothing to tune."""
        c = self.config
        if c.shares is not None:
            named = [t for group in c.shares for t in group.split("+")]
            if sorted(named) != sorted(c.targets):
                raise ValueError(
                    f"shares={c.shares}: name each of the targets {', '.join(c.targets)} once, joined by +"
                )
            if abs(sum(c.shares.values()) - 1) > 1e-6:
                raise ValueError(f"shares={c.shares}: choose parts of the budget that add up to 1")
        if c.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps={c.warmup_steps} with steps={self.steps}: SMT needs at least one warm-up step and one "
                "tuning step: choose a smaller warm-up or more steps"
            )

    def capacity(self, shapes: Shapes) -> Capacity:
        """n blocks, the whole number nearest to fraction x parameters / their size; of channels, n strips."""
        assert self.fraction is not None
        (height, width), blocks = self._units(shapes)
        unit = "channels" if self.config.metric == CHANNELS else "blocks"
        size, called = height * width, f"{unit} of {height}x{width}"
        total, available = total_parameters(shapes), sum(r * c for r, c in blocks.values())
        count = max(1, round(self.fraction * total / size))
        if count > available:
            raise ValueError(
                f"fraction {self.fraction:.4%} needs {count} {called}, but {', '.join(self.config.targets)} "
                f"hold {available} ({available * size / total:.2%}): choose a smaller fraction or more targets"
            )
        for group, wanted in apportion(count, self.config.shares or {}).items():
            held = sum(r * c for name, (r, c) in blocks.items() if matches(name, group.split("+")))
            if wanted > held:
                raise ValueError(
                    f"shares: {group} is to get {wanted} {called} but holds {held}: choose a smaller share"
                )
        return Capacity(unit, count, count * size, size, total)

    @property
    def half(self) -> str:
        """Blocks and their gradients are float32; a warm-up that trains is full fine-tuning."""
        return "float32 blocks and block gradients" + (f"; warm-up: {MASTERS}" if self.config.warmup_trains else "")

    @property
    def trains_dense(self) -> bool:
        """The warm-up trains everything unless told otherwise."""
        return self.config.warmup_trains

    @property
    def whole_base(self) -> str | None:
        """For a warm-up that trains, and for scores that need whole gradients: those of a weight of 4 bits are never made."""
        c = self.config
        if c.warmup_trains:
            return "warmup_trains=True: its warm-up trains the model's own weights: choose false"
        if needs_gradients(c.metric, c.scope) and c.metric != "mean_abs":
            return f"metric={c.metric!r}: scores of whole weight gradients: choose mean_abs, or one that looks at inputs alone"
        return None

    @property
    def warmup_steps(self) -> int:
        """Counted within the run's steps, as in the paper."""
        return self.config.warmup_steps

    @property
    def restarts_schedule(self) -> bool:
        """As in the released code, where asked for."""
        return self.config.schedule == "fresh"

    @property
    def watches(self) -> tuple[str, ...]:
        """The targets, where the warm-up makes their gradients and the score needs them."""
        c = self.config
        return c.targets if c.warmup_trains and needs_gradients(c.metric, c.scope) else ()

    def warmup(self, model: nn.Module) -> list[ParamGroup]:
        """Starts the statistics; returns all parameters, or none for the frozen warm-up."""
        collector = self._prepare(model)
        freeze(model)
        collector.start(model, self.config.warmup_trains)
        if not self.config.warmup_trains:
            return []
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return [ParamGroup(list(model.parameters()), lr_scale=self.config.warmup_lr_scale)]

    def observe(self, model: nn.Module, step: int) -> None:
        """Adds one step's gradients to the sums."""
        self._observed += 1
        self._prepare(model).observe(model, self.config.warmup_trains)

    def attach(self, model: nn.Module) -> list[ParamGroup]:
        """Selects (unless a selection was restored), freezes everything and puts sparse layers where blocks were chosen."""
        collector = self._prepare(model)
        collector.stop(model)
        if not self.selection:
            self.selection = self._select(collector.scores())
        self._sums.clear()
        freeze(model)
        found = dict(linears(model, self.config.targets))
        self._layers, self._flat = sparse_layers(found, self.selection, self._shape)
        self._write_back = WriteBack(self._layers, self._flat)
        weights = [layer.weight for layer in self._layers.values()]
        self._ways = sorted({way(weight.device, weight.dtype) for weight in weights})
        for name, layer in self._layers.items():
            replace_module(model, name, layer)
        return [ParamGroup(self._flat.parameters)]

    def before_step(self, model: nn.Module, step: int) -> None:
        """Gradients start from zero."""
        assert self._flat is not None
        self._flat.clear_gradients()

    def after_backward(self, model: nn.Module, step: int) -> None:
        """Gradients go to the optimizer."""
        assert self._flat is not None
        self._flat.publish_gradients()

    def after_step(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Writes the blocks back into the dense weights."""
        assert self._write_back is not None
        self._write_back()

    def merge(self, model: nn.Module) -> None:
        """Plain linear layers again."""
        for name, layer in self._layers.items():
            replace_module(model, name, layer.dense())
        self._layers, self._flat, self._write_back = {}, None, None

    def describe(self) -> dict[str, Any]:
        """The selection, block by block, and how the budget fell on the projections."""
        per_target: Counter[str] = Counter()
        height, width = self._shape
        for name, blocks in self.selection.items():
            per_target[role(name)] += len(blocks)
        return {
            "block_size": height if height == width else [height, width],
            "blocks_available": self._available,
            "warmup_steps_observed": self._observed,
            "blocks_per_target": dict(per_target),
            "blocks": {name: [list(block) for block in blocks] for name, blocks in self.selection.items()},
        }

    def ran(self) -> dict[str, Any]:
        """How block gradients were made (`gradients`), and kernels that were left, with reasons."""
        gave_up = {name: guarded.left[name] for name in (FUSED, WRITE) if name in guarded.left}
        return {"block_gradients": self._ways} | ({"kernels_left": gave_up} if gave_up else {})

    def state_dict(self) -> dict[str, Any]:
        """Sums so far, or the selection once it is made."""
        return {"observed": self._observed, "sums": dict(self._sums), "selection": dict(self.selection)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`, before `warmup` goes on or, where a selection was made, before `attach`."""
        self._observed, self._sums, self.selection = state["observed"], dict(state["sums"]), dict(state["selection"])

    def _units(self, shapes: Shapes) -> tuple[tuple[int, int], dict[str, tuple[int, int]]]:
        """Height and width of what is chosen, and how many rows and columns of it every targeted matrix has."""
        c = self.config
        if c.metric == CHANNELS:
            height, strips = channel_grid(shapes, c.targets)
            return (height, 1), strips
        side, blocks = grid(shapes, c.targets, c.block_size)
        return (side, side), blocks

    def _select(self, scores: dict[str, torch.Tensor]) -> Selection:
        c = self.config
        if c.shares is None:
            return select(scores, self._count, c.scope, self.seed)
        chosen: Selection = {}
        for group, count in apportion(self._count, c.shares).items():
            own = {name: s for name, s in scores.items() if matches(name, group.split("+"))}
            chosen |= select(own, count, c.scope, self.seed)
        return {name: chosen[name] for name in scores if name in chosen}  # model order

    def _prepare(self, model: nn.Module) -> Collector:
        """Measures the untouched model, the first time."""
        if self._collector is None:
            c = self.config
            shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
            self._shape, blocks = self._units(shapes)
            self._count, self._available = self.capacity(shapes).units, sum(r * c for r, c in blocks.values())
            self._collector = Collector(c.targets, c.metric, c.scope, self._shape[0], blocks, self._sums, self.average)
        return self._collector

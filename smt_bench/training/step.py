"""One optimizer step: the only place that knows the order of a method's hooks around forward, backward and update.

    before_step           tuning only
    forward, backward     of every part of the batch
    meanwhile             what the caller has to do anyway, while a GPU works
    read                  the losses; a step that diverged ends here
    probes                gradients final: averaged over the processes, those that were declared (`watches`) whole
    observe               in the warm-up; in tuning `after_backward`
    clip, update          and gradients cleared
    read                  the norm of the gradients; nothing but the two waits for a GPU
    after_step            tuning only, where something trains

Training (`training.loop`), the byte account (`measuring.accountant`), the clock (`measuring.turns`) and the tests take this very
step; what they want to see on the way, an `Instrument` sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from smt_bench.data.batches import Batch
from smt_bench.machine import parallel
from smt_bench.methods.base import Method
from smt_bench.records.outcome import Diverged
from smt_bench.training.instrument import UNWATCHED, Instrument
from smt_bench.training.loss import response_loss
from smt_bench.training.optimizer import Updater
from smt_bench.training.probes import Probe

Stage = Literal["warmup", "tuning"]
PATIENCE = 5  # steps in which a gradient has to reach everything; an expert may see no token in one


@dataclass(frozen=True)
class Taken:
    """What a step says about itself, over all processes.

    Attributes:
        loss: mean cross-entropy per label token, in nats, before the update.
        norm: of all gradients, before clipping; None where nothing trains.
        tokens: seen, without padding.
    """

    loss: float
    norm: float | None
    tokens: int


class Step:
    """The steps of one stage.

    Args:
        stage: "warmup" or "tuning"; which hooks are called.
        model: what the hooks are shown.
        method: its `warmup` or `attach` has been called.
        updater: over what that gave to train.
        probes: by name; they look before the method does.
        instrument: looks on.
    """

    def __init__(
        self,
        stage: Stage,
        model: nn.Module,
        method: Method,
        updater: Updater,
        probes: Mapping[str, Probe] | None = None,
        instrument: Instrument = UNWATCHED,
    ) -> None:
        self.tuning, self.model, self.method, self.updater = stage == "tuning", model, method, updater
        self.probes, self.instrument = list((probes or {}).values()), instrument
        self.watched = sorted({*method.watches, *(name for probe in self.probes for name in probe.watches)})
        # Who trains everything trains what only images would need, too.
        self._unreached = [] if method.trains_dense or not self.tuning else list(updater.pieces)
        self._taken = 0

    def take(
        self, number: int, parts: Sequence[Batch], factor: float, meanwhile: Callable[[], None] = lambda: None
    ) -> Taken:
        """One step.

        Args:
            number: 1-based, over the whole run.
            parts: micro-batches, or this process's share of each, on the model's device.
            factor: on the peak learning rates.
            meanwhile: called once the last backward pass is under way.

        Raises:
            Diverged: the loss or the norm is not a number, in all processes alike.
            ValueError: no gradient has reached some of what was to train.
        """
        method, updater, around = self.method, self.updater, self.instrument.around
        count, tokens = parallel.total(sum(p.targets for p in parts), sum(p.tokens for p in parts))
        count = max(1, int(count))  # a batch whose responses were all cut off teaches nothing
        if self.tuning:
            with around("hooks"):
                method.before_step(self.model, number)
        losses = []
        for position, part in enumerate(parts, start=1):
            with around("forward"):
                loss = self.loss(part, count)
            with around("backward"):
                updater.backward(loss, last=position == len(parts))
            losses.append(loss.detach())
            del loss
        meanwhile()
        own = self.instrument.read(losses)
        (total,) = parallel.total(sum(each / parallel.size() for each in own))
        if not math.isfinite(total):
            raise Diverged(number, total)
        with updater.gradients(self.watched), around("hooks"):
            for probe in self.probes:
                probe.observe(number)
            (method.after_backward if self.tuning else method.observe)(self.model, number)
            self._reach()
        norm = updater.step(factor, self.instrument)
        if isinstance(norm, torch.Tensor):
            (norm,) = self.instrument.read([norm])
        if norm is not None and not math.isfinite(norm):
            raise Diverged(number, norm)
        if self.tuning and updater.optimizer is not None:
            with around("hooks"):
                method.after_step(self.model, updater.optimizer, number)
        return Taken(total, norm, int(tokens))

    def _reach(self) -> None:
        """Refuses to go on where what was to train has no gradient: its numbers would count and never move."""
        self._unreached = [p for p in self._unreached if p.grad is None]
        self._taken += 1
        if self._unreached and self._taken == PATIENCE:
            lost = {id(p) for p in self._unreached}
            name = next((name for name, p in self.model.named_parameters() if id(p) in lost), "a parameter")
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise ValueError(
                f"{self.method.name}: no gradient reached {name}{more} in {PATIENCE} steps: choose other targets"
            )

    def loss(self, part: Batch, targets: int) -> torch.Tensor:
        """A part's contribution to the mean over all label tokens of the step, in nats.

        Summed over the parts and averaged over the processes, as gradients are, it is that mean: neither the size of the parts
        nor the number of processes changes anything but rounding.

        Args:
            part: one micro-batch.
            targets: label tokens of all parts in all processes.
        """
        return response_loss(self.updater.model, part) / (targets / parallel.size())

"""The training loop: one for all methods, which it knows by their hooks only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch

from smt_bench.data.batches import Batch, collate, training_order
from smt_bench.data.prompts import Encoded
from smt_bench.machine import parallel
from smt_bench.machine.spread import Spread
from smt_bench.methods.base import Method, OptimizerSettings, ParamGroup
from smt_bench.records.outcome import Diverged
from smt_bench.records.runs import Run, digest
from smt_bench.training.checkpoint import State
from smt_bench.training.loss import enable_checkpointing, response_loss
from smt_bench.training.optimizer import Updater, linear_factor
from smt_bench.training.probes import Probe, build
from smt_bench.training.resume import TUNING, WARMUP, AnyUpdater, Keeper, unpack_method
from smt_bench.training.timer import Timer
from smt_bench.training.zero import ZeroUpdater


@dataclass
class Trained:
    """What training measured.

    Attributes:
        losses: mean cross-entropy per label token of every optimizer step, in nats.
        grad_norms: norm of all gradients before clipping, per step; None where nothing trained.
        tokens: tokens seen, without padding.
        seconds: per part: "warmup" (dense steps), "attach" (selection and conversion), "tuning", "checkpoints";
            "resume" for conversion where an interrupted run goes on.
        bytes: sizes of trainable parameters and optimizer state at the end.
    """

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float | None] = field(default_factory=list)
    tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)


class Loop:
    """One run's training.

    Args:
        run: hyper-parameters and seed.
        model: in train mode, on its device.
        method: hooks.
        lengths: length of every training example, in any unit, for the buckets.
        encoded: gives an example's tokens by its number.
        pad_id: padding token.
        device: where the batches go.
        on_step: called with (step, loss) after every step.
        keeper: saves and restores the state.
        spread: how the run is spread over processes.
    """

    def __init__(
        self,
        run: Run,
        model: Any,
        method: Method,
        lengths: list[int],
        encoded: Callable[[int], Encoded],
        pad_id: int,
        device: torch.device,
        on_step: Callable[[int, float], None],
        keeper: Keeper,
        spread: Spread,
    ) -> None:
        self.run, self.model, self.method, self.pad_id = run, model, method, pad_id
        self.lengths, self.encoded = lengths, encoded
        self.device, self.on_step, self.keeper = device, on_step, keeper
        self.spread = spread
        method.average = parallel.averaged
        t = run.train
        self.settings = OptimizerSettings(t.lr, t.betas, t.eps, t.weight_decay)
        self.trained = Trained()
        self._updater: AnyUpdater | None = None
        self.probes: dict[str, Probe] = build(run.probes, model, t.steps)

    def train(self, check: Callable[[], None]) -> Trained:
        """Warm-up, attach, tuning.

        Args:
            check: called once the method is attached, to count what really trains.

        Raises:
            Diverged: a loss was NaN or infinite.
        """
        try:
            with self.keeper.stop.held():  # a signal waits until a step is done and its state can be saved
                return self._train(check)
        except Diverged:  # in every process alike: the next run needs the memory
            if self._updater is not None:
                self._updater.close()
            raise

    def _train(self, check: Callable[[], None]) -> Trained:
        t, method, model, keeper = self.run.train, self.method, self.model, self.keeper
        # Dropout, different in every process; batches and methods draw from generators of their own.
        torch.manual_seed(self.run.seed + 1_000_003 * parallel.rank())
        if t.gradient_checkpointing:
            enable_checkpointing(model)
        state = keeper.load()
        done = 0
        if state is not None:
            done = state["step"]
            method.load_state_dict(unpack_method(state))
            self.trained = Trained(**state["measured"]["trained"])
            for name, probe in self.probes.items():
                probe.load_state_dict(state["measured"]["probes"][name])
        order = islice(training_order(self.lengths, t.batch_size, self.run.seed), done, None)
        warmup, moved = min(method.warmup_steps, t.steps), False
        if warmup and (state is None or state["phase"] == WARMUP):
            groups = method.warmup(model)
            keeper.begin(model, False, state)
            updater = self._start(groups, state) if groups or state else None
            state = None
            with self._timed("warmup") as clock:
                for step in range(done + 1, warmup + 1):
                    self._step(step, order, updater, lambda s: method.observe(model, s), lambda s: None)
                    self._keep(WARMUP, step, updater, clock)
            moved, done = updater is not None, warmup
            if updater is not None:
                updater.close()
            del updater, groups
            self._updater = None
        with self._timed("attach" if state is None else "resume"):
            groups = method.attach(model)
            check()
            if len(set(parallel.gathered(digest(method.describe())))) > 1:
                raise RuntimeError(f"{method.name} chose differently in different processes: use one process")
        if not groups:
            return self.trained
        with self._timed("tuning") as clock:
            with clock.paused("checkpoints"):
                keeper.begin(model, moved, state)
                updater = self._start(groups, state)
                assert updater is not None
                if moved:
                    keeper.save(TUNING, done, model, method, updater, self._measured())
            for step in range(done + 1, t.steps + 1):
                method.before_step(model, step)
                self._step(
                    step,
                    order,
                    updater,
                    lambda s: method.after_backward(model, s),
                    lambda s: method.after_step(model, updater.optimizer, s),
                )
                self._keep(TUNING, step, updater, clock)
        self.trained.bytes = {
            "trainable_parameters": updater.parameter_bytes(),
            "optimizer_state": updater.state_bytes(),
        }
        updater.close()
        return self.trained

    def _start(self, groups: list[ParamGroup], state: State | None) -> AnyUpdater | None:
        """A phase's optimizer over `groups`, with weights, optimizer and generators as in `state`."""
        if state is not None:
            self.keeper.restore_weights(state, self.model)
        updater: AnyUpdater | None = None
        dense = sum(p.numel() for g in groups for p in g.params) == sum(p.numel() for p in self.model.parameters())
        if self.spread.zero and dense:
            t = self.run.train
            passes = math.ceil(t.batch_size / t.micro_batch_size)
            updater = ZeroUpdater(self.model, self.method, groups, self.settings, self.spread, passes, t.max_grad_norm)
        elif groups:
            updater = Updater(self.method, groups, self.settings)
        if state is not None:
            self.keeper.restore_rest(state, updater)
        self._updater = updater
        return updater

    def _keep(self, phase: str, step: int, updater: AnyUpdater | None, clock: Timer) -> None:
        """Saves the state if it is time or training is over, and leaves if asked to."""
        stop = self.keeper.stop
        due, asked = parallel.agreed(self.keeper.due(step), stop.asked)
        if asked and not stop.asked:  # another process was; a request that comes meanwhile waits for the next step
            stop.request()
        if due or step == self.run.train.steps:
            with clock.paused("checkpoints"):
                self.keeper.save(phase, step, self.model, self.method, updater, self._measured())
        if asked:
            stop.check()

    def _step(
        self,
        step: int,
        order: Iterator[list[int]],
        updater: AnyUpdater | None,
        after_backward: Callable[[int], None],
        after_step: Callable[[int], None],
    ) -> None:
        t = self.run.train
        numbers = next(order)
        parts = [
            self._share([self.encoded(i) for i in numbers[start : start + t.micro_batch_size]])
            for start in range(0, len(numbers), t.micro_batch_size)
        ]
        targets, tokens = parallel.total(sum(p.targets for p in parts), sum(p.tokens for p in parts))
        targets = max(1, int(targets))  # a batch whose responses were all cut off teaches nothing
        sharded = updater if isinstance(updater, ZeroUpdater) else None
        own = 0.0
        for number, part in enumerate(parts, start=1):
            on_device = Batch(part.ids_BT.to(self.device), part.labels_BT.to(self.device), part.targets, part.tokens)
            # One mean over all label tokens of the step, so that neither the micro-batch size nor the number of processes,
            # whose gradients are averaged, changes anything but rounding.
            loss = response_loss(sharded.engine if sharded else self.model, on_device) / targets * parallel.size()
            own += loss.item() / parallel.size()
            if sharded is not None:
                sharded.backward(loss, last=number == len(parts))
            elif loss.requires_grad:  # a warm-up may only look at activations
                loss.backward()
        (total,) = parallel.total(own)
        if not math.isfinite(total):
            raise Diverged(step, total)
        norm = None
        factor = linear_factor(step, t.steps, t.lr_warmup_steps)
        if sharded is not None:
            looked_at = {t for seer in (self.method.config, *self.probes.values()) for t in _targets(seer)}
            with sharded.gradients(sorted(looked_at)):
                self._show(step, after_backward)
            norm = sharded.step(factor)
        else:
            parallel.average_gradients(self.model.parameters())
            self._show(step, after_backward)
            if updater is not None:
                norm = float(torch.nn.utils.clip_grad_norm_(updater.params, t.max_grad_norm))
        if norm is not None and not math.isfinite(norm):
            raise Diverged(step, norm)
        if isinstance(updater, Updater):
            updater.step(factor)
        if updater is not None:
            after_step(step)
        else:
            self.model.zero_grad(set_to_none=True)
        self.trained.losses.append(total)
        self.trained.grad_norms.append(norm)
        self.trained.tokens += int(tokens)
        self.on_step(step, total)

    def _share(self, examples: list[Encoded]) -> Batch:
        """This process's part of a micro-batch, as wide as the whole: methods that look at activations see the padding too."""
        return collate(parallel.share(examples), self.pad_id, max(len(e.ids) for e in examples))

    def _show(self, step: int, after_backward: Callable[[int], None]) -> None:
        for probe in self.probes.values():
            probe.observe(step)
        after_backward(step)

    def _measured(self) -> dict[str, Any]:
        return {
            "trained": asdict(self.trained),
            "probes": {name: probe.state_dict() for name, probe in self.probes.items()},
        }

    def _timed(self, part: str) -> Timer:
        return Timer(self.trained.seconds, part)


def _targets(seer: Any) -> tuple[str, ...]:
    """Layers whose weights' gradients a method (by its config) or a probe looks at."""
    return tuple(getattr(seer, "targets", getattr(seer, "TARGETS", ())))

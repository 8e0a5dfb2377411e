"""The training loop: one for all methods, which it knows by their hooks only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import torch

from smt_bench.data.batches import Batch, collate, training_order
from smt_bench.data.prompts import Encoded
from smt_bench.machine import parallel
from smt_bench.machine.spread import Spread
from smt_bench.methods.base import Method, ParamGroup
from smt_bench.records.outcome import Diverged
from smt_bench.records.runs import Run, digest
from smt_bench.training.best import Best
from smt_bench.training.checkpoint import State
from smt_bench.training.loss import enable_checkpointing
from smt_bench.training.optimizer import SCHEDULES, Updater
from smt_bench.training.probes import Probe, build
from smt_bench.training.resume import Keeper, unpack_method
from smt_bench.training.step import Stage, Step
from smt_bench.training.timer import Timer
from smt_bench.training.updaters import updater_of


@dataclass
class Trained:
    """What training measured.

    Attributes:
        losses: mean cross-entropy per label token of every optimizer step, in nats.
        grad_norms: norm of all gradients before clipping, per step; None where nothing trained.
        tokens: tokens seen, without padding.
        seconds: per part: "warmup" (dense steps), "attach" (selection and conversion), "tuning", "checkpoints";
            "validation" where the best weights are kept; "resume" for conversion where an interrupted run goes on.
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
        best: keeps the best weights, which the model then has at the end; None: it has the last.
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
        best: Best | None = None,
    ) -> None:
        self.run, self.model, self.method, self.pad_id = run, model, method, pad_id
        self.lengths, self.encoded = lengths, encoded
        self.device, self.on_step, self.keeper = device, on_step, keeper
        self.spread, self.best = spread, best
        method.set_average(parallel.averaged)
        self.trained = Trained()
        self._updater: Updater | None = None
        self.probes: dict[str, Probe] = build(run.probes, model, run.train.steps)

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
            if self.best is not None and state.get("best"):
                self.best.load_state_dict(state["best"])
        order = islice(training_order(self.lengths, t.batch_size, self.run.seed), done, None)
        warmup, moved = min(method.warmup_steps, t.steps), False
        if warmup and (state is None or state["phase"] == "warmup"):
            groups = method.warmup(model)
            keeper.begin(model, False, state)
            updater = self._start(groups, state)
            state = None
            with self._timed("warmup") as clock:
                self._steps("warmup", range(done + 1, warmup + 1), order, updater, clock)
            moved, done = bool(groups), warmup
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
                if self.best is not None:
                    self.best.begin(model)
                updater = self._start(groups, state)
                if moved:
                    keeper.save("tuning", done, method, updater, self._measured())
            self._steps("tuning", range(done + 1, t.steps + 1), order, updater, clock)
        self.trained.bytes = {
            "trainable_parameters": updater.parameter_bytes(),
            "optimizer_state": updater.state_bytes(),
        }
        updater.close()
        if self.best is not None:
            self.best.put_back(model, method)
        return self.trained

    def _start(self, groups: list[ParamGroup], state: State | None) -> Updater:
        """A phase's updater over `groups`, with weights, optimizer and generators as in `state`."""
        if state is not None:
            self.keeper.restore_weights(state, self.model)
        self._updater = updater = updater_of(self.model, self.method, groups, self.run.train, self.spread)
        if state is not None:
            self.keeper.restore_rest(state, updater)
        return updater

    def _steps(self, stage: Stage, numbers: range, order: Iterator[list[int]], updater: Updater, clock: Timer) -> None:
        """The steps of one stage, each kept."""
        trained = self.trained
        step = Step(stage, self.model, self.method, updater, self.probes)
        ready: list[list[Batch]] = []

        def prepare() -> None:
            ready.append(self._parts(next(order)))

        for number in numbers:
            if not ready:
                prepare()
            # The next batch is read, tokenised and sent while a GPU is at work on this one.
            following = prepare if number + 1 in numbers else lambda: None
            taken = step.take(number, ready.pop(), self.factor(stage, number), following)
            trained.losses.append(taken.loss)
            trained.grad_norms.append(taken.norm)
            trained.tokens += taken.tokens
            self.on_step(number, taken.loss)
            if self.best is not None and stage == "tuning" and self.best.due(number):
                with clock.paused("validation"):
                    self.best.look(number, self.model, self.method)
            self._keep(stage, number, updater, clock)

    def factor(self, stage: Stage, number: int) -> float:
        """Factor on the peak rates at step `number` of the run; a tuning phase may have a schedule of its own."""
        t, method = self.run.train, self.method
        schedule = SCHEDULES[t.schedule]
        if stage == "tuning" and method.restarts_schedule:
            return schedule(number - method.warmup_steps, t.steps - method.warmup_steps, 0)
        return schedule(number, t.steps, t.lr_warmup_steps)

    def _keep(self, stage: Stage, step: int, updater: Updater, clock: Timer) -> None:
        """Saves the state if it is time or training is over, and leaves if asked to."""
        stop = self.keeper.stop
        due, asked = parallel.agreed(self.keeper.due(step), stop.asked)
        if asked and not stop.asked:  # another process was; a request that comes meanwhile waits for the next step
            stop.request()
        if due or step == self.run.train.steps:
            with clock.paused("checkpoints"):
                best = None if self.best is None else self.best.state_dict()
                self.keeper.save(stage, step, self.method, updater, self._measured(), best)
        if asked:
            stop.check()

    def _parts(self, numbers: list[int]) -> list[Batch]:
        """This process's share of each micro-batch, as wide as the whole: who looks at activations sees the padding too."""
        size, parts = self.run.train.micro_batch_size, []
        for start in range(0, len(numbers), size):
            examples = [self.encoded(i) for i in numbers[start : start + size]]
            part = collate(parallel.share(examples), self.pad_id, max(len(e.ids) for e in examples))
            parts.append(part.to(self.device))
        return parts

    def _measured(self) -> dict[str, Any]:
        return {
            "trained": asdict(self.trained),
            "probes": {name: probe.state_dict() for name, probe in self.probes.items()},
        }

    def _timed(self, part: str) -> Timer:
        return Timer(self.trained.seconds, part)

"""Exact bytes of one training step, by category and phase: the model, the method and the optimizer really run.

One account serves real tensors (experiment `memory`) and fake ones (command `plan`), so that planned and measured stand
in one table. It goes through warm-up, attach and tuning as training does (`training.loop`), and looks on at the very step that
training takes (`training.step`). Each stage does one whole step, with the optimizer's state already there, as in every step
but the first.

The categories are in `measuring.account`. Not counted: workspaces inside an operation, the allocator's rounding and
fragmentation, the framework itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from smt_bench.data.batches import Batch
from smt_bench.data.prompts import IGNORED
from smt_bench.measuring.account import CATEGORIES, HELD, WORK, Account, Phase
from smt_bench.measuring.live_tensors import History, LiveStorages, replay
from smt_bench.methods.base import Method, OptimizerSettings, ParamGroup
from smt_bench.methods.nf4 import stored
from smt_bench.training.instrument import Instrument, Region
from smt_bench.training.loss import enable_checkpointing
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater, Updater
from smt_bench.training.step import Stage, Step


def account(
    model: Any,
    method: Method,
    settings: OptimizerSettings,
    ids_BT: torch.Tensor,
    labels_BT: torch.Tensor,
    checkpointing: bool = False,
    max_grad_norm: float = 1.0,
) -> Account:
    """Runs and counts one step of every stage.

    Args:
        model: a causal language model in train mode; afterwards the method is attached to it.
        method: fresh.
        settings: of the optimizer.
        ids_BT: token ids.
        labels_BT: the token to predict from each position, `IGNORED` where there is none (as `batches.Batch`).
        checkpointing: recompute activations.
        max_grad_norm: gradient clipping.
    """
    return Accountant(model, method, settings, ids_BT, labels_BT, checkpointing, max_grad_norm).whole()


class Accountant(Instrument):
    """The stages one by one; `account` is the whole.

    Args:
        model: see `account`; so are the others.
        updater: what training has; another one may treat precision differently.
        adapt: called with the optimizer before its first step, e.g. to choose its GPU kernel.

    Attributes:
        account: what was found so far.
        operations: stage -> the operations of one step, for time estimates (`LiveStorages.operations`).
        saved: stage -> bytes of a checkpoint's tensors: weights that changed, optimizer, method.
        histories: stage -> all that came and went until its end, from which its phases follow (`phases`).
    """

    def __init__(
        self,
        model: Any,
        method: Method,
        settings: OptimizerSettings,
        ids_BT: torch.Tensor,
        labels_BT: torch.Tensor,
        checkpointing: bool = False,
        max_grad_norm: float = 1.0,
        updater: type[TorchUpdater] = TorchUpdater,
        adapt: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
    ) -> None:
        if method.library is not None:
            importlib.import_module(method.library)

        self.model, self.method, self.settings = model, method, settings
        self.batch = Batch(ids_BT, labels_BT, int((labels_BT != IGNORED).sum()), ids_BT.numel())
        self._given = (self.batch.ids_BT, self.batch.labels_BT, self.batch.places_N, self.batch.labels_N)
        self.max_grad_norm, self.updater, self.adapt = max_grad_norm, updater, adapt
        self.account = Account()
        self.operations: dict[str, Counter[tuple[bool, torch.dtype, int, int]]] = {}
        self.saved: dict[str, int] = {}
        self.histories: dict[str, History] = {}
        self._live = LiveStorages()
        self._groups: list[ParamGroup] = []
        self._stage, self._number, self._start = "", 0, 0  # of the step under way: its first event
        self._updater: Updater | None = None  # of the step under way
        if checkpointing:
            # One context for the forward pass, one around what the backward pass computes again.
            enable_checkpointing(model, context_fn=lambda: (contextlib.nullcontext(), self._live.recomputation()))

    def whole(self) -> Account:
        """All stages."""
        if self.method.warmup_steps:
            self.warmup()
        self.attach()
        self.tuning()
        return self.account

    def keep(self, state: Any) -> None:
        """Counts tensors that the method brought along (a resumed run's statistics)."""
        self._live.tag((t for t in tree_leaves(state) if isinstance(t, torch.Tensor)), "method_state")

    def warmup(self) -> None:
        """The warm-up's steps."""
        with self._watched():
            groups = self.method.warmup(self.model)
            self._steps("warmup", groups, 1)

    def attach(self) -> None:
        """Selection and conversion."""
        with self._watched():
            self._hold(None)
            self._live.mark("attach attach")
            self._groups = self.method.attach(self.model)
            self._hold(None)
            self._live.mark("")
        self._report("attach")

    def tuning(self) -> None:
        """The first tuning steps; nothing where the method trains nothing."""
        if self._groups:
            with self._watched():
                self._steps("tuning", self._groups, self.method.warmup_steps + 1)

    def around(self, region: Region) -> contextlib.AbstractContextManager[None]:
        """Marks phases and tells what tensors are; a hook belongs to the phase that it comes after."""
        if self._updater is None or region == "clip":
            return contextlib.nullcontext()
        return {
            "hooks": self._hooks, "forward": self._forward, "backward": self._backward, "optimizer": self._optimizer
        }[region](self._updater)  # fmt: skip

    def read(self, values: Sequence[torch.Tensor]) -> list[float]:
        """Nothing: bytes do not depend on it, and fake tensors have no values."""
        return [0.0] * len(values)

    def _steps(self, stage: Stage, groups: list[ParamGroup], first: int) -> None:
        updater: Updater = FrozenUpdater(self.model)
        self._live.written.clear()
        if groups:
            updater = trains = self.updater(self.model, self.method, groups, self.settings, self.max_grad_norm)
            self.adapt(trains.optimizer)
            for parameter in updater.params:  # a step at rate 0 creates the optimizer's state
                parameter.grad = torch.zeros_like(parameter)
            updater.step(0.0, self)
        self._hold(updater)
        step = Step(stage, self.model, self.method, updater, instrument=self)
        if self._take(step, stage, first):
            # The step left something behind that the next one starts with: count that one as well.
            self._take(step, stage, first + 1)
        self._report(stage)
        self.account.trained[stage] = sum(p.numel() for p in updater.params)
        changed = [t for t in stored(updater.weights().values()) if self._live.number(t) in self._live.written]
        brought = [t for t in tree_leaves(self.method.state_dict()) if isinstance(t, torch.Tensor)]
        size = self._stored(changed) + self._stored(brought)
        self.saved[stage] = size + updater.state_bytes()

    def _stored(self, tensors: Iterable[torch.Tensor]) -> int:
        """Bytes that saving takes: each storage once and whole, since tied weights share one, and slices of one tensor do."""
        return sum({self._live.number(t): t.untyped_storage().nbytes() for t in tensors}.values())

    def _take(self, step: Step, stage: Stage, number: int) -> bool:
        """One step; returns whether the method keeps something that it did not have before."""
        live = self._live
        self._stage, self._number, self._start, self._updater = stage, number, len(live.events), step.updater
        live.flops.clear()
        live.operations.clear()
        self._begin("forward")
        step.take(number, [self.batch], 1.0)
        self._updater = None
        live.mark("")
        self._hold(step.updater)
        kept = live.tag_kept("method_state", (*HELD, "gradients"), *self._given)
        return any(each >= self._start for each in kept)

    def _begin(self, phase: str) -> None:
        self._live.mark(f"{self._stage} {phase} {self._number}")
        self._live.work = phase

    @contextlib.contextmanager
    def _hooks(self, updater: Updater) -> Iterator[None]:
        yield
        self._tag_gradients(updater)

    @contextlib.contextmanager
    def _forward(self, updater: Updater) -> Iterator[None]:
        live = self._live

        def output_layer(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            live.born_as = "logits_loss"
            if args[0].requires_grad:

                def arrived(_: torch.Tensor) -> None:
                    live.born_as = None

                args[0].register_hook(arrived)  # the backward pass has left the output layer

        hook = self.model.get_output_embeddings().register_forward_pre_hook(output_layer)
        try:
            yield
        finally:
            hook.remove()
        live.tag_born(self._start, "saved_activations")

    @contextlib.contextmanager
    def _backward(self, updater: Updater) -> Iterator[None]:
        self._begin("backward")
        yield
        self._live.born_as = None
        self._tag_gradients(updater)

    @contextlib.contextmanager
    def _optimizer(self, updater: Updater) -> Iterator[None]:
        self._begin("optimizer")
        with contextlib.ExitStack() as stack:
            if updater.optimizer is not None:  # the masters get their gradients inside the update
                hook = updater.optimizer.register_step_pre_hook(
                    lambda optimizer, *_: self._live.tag((p.grad for p in _parameters(optimizer)), "gradients")
                )
                stack.callback(hook.remove)
            yield

    def _hold(self, updater: Updater | None) -> None:
        """Gives what model and optimizer hold its category."""
        live = self._live
        held = [*self.model.parameters(), *self.model.buffers()]
        if updater is not None and updater.optimizer is not None:
            mine = {id(p) for p in updater.params}
            held += updater.params
            live.tag((p for p in _parameters(updater.optimizer) if id(p) not in mine), "master_copies")
            states = updater.optimizer.state.values()
            live.tag((t for s in states for t in s.values() if isinstance(t, torch.Tensor)), "optimizer_state")
        live.tag(self._given, "saved_activations")
        live.tag(held, "parameters")
        live.weights = {live.number(tensor) for tensor in stored(held)}

    def _tag_gradients(self, updater: Updater) -> None:
        self._live.tag((p.grad for p in (*self.model.parameters(), *updater.params)), "gradients", keep=HELD)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Counts; the garbage collector, which comes when it likes, is kept out."""
        enabled = gc.isenabled()
        gc.disable()
        try:
            with self._live:
                yield
        finally:
            if enabled:
                gc.enable()

    def _report(self, stage: str) -> None:
        """Adds the phases of a stage, and its work."""
        live = self._live
        self.histories[stage] = live.history()
        self.account.phases += phases(stage, self.histories[stage])
        if stage != "attach":
            self.operations[stage] = Counter(live.operations)
            self.account.flops[stage] = {kind: live.flops.get(kind, 0) for kind in WORK}


def phases(stage: str, history: History) -> list[Phase]:
    """The phases of a stage; where two steps were counted, each phase of the one with the higher peak."""
    found: dict[str, Phase] = {}
    for name, (peak, end) in replay(history).items():
        of, _, rest = name.partition(" ")
        if of != stage:
            continue
        peak, end = ({c: found_bytes.get(c, 0) for c in CATEGORIES} for found_bytes in (peak, end))
        phase = Phase(stage, rest.partition(" ")[0], peak, end)
        if phase.phase not in found or phase.peak_bytes > found[phase.phase].peak_bytes:
            found[phase.phase] = phase
    return list(found.values())


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    return (p for group in optimizer.param_groups for p in group["params"])


__all__ = ["CATEGORIES", "Account", "Accountant", "Phase", "account", "phases"]

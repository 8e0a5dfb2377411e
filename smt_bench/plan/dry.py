"""A dry run: one step of every stage of the real model with the real method, on fake tensors.

Statistics that a method gathers in its warm-up have no values here. They are replaced, through the method's own `state_dict`,
by random ones: where a choice depends on them (blocks of weights), the plan is for a choice scattered at random over all
that is allowed. Choices that share input columns or layers need less.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_map

from smt_bench.data.prompts import IGNORED
from smt_bench.machine.signals import deferred
from smt_bench.machine.states import OPTIMIZER_DTYPES
from smt_bench.measuring.account import Account, Phase
from smt_bench.measuring.accountant import Accountant
from smt_bench.measuring.live_tensors import History
from smt_bench.measuring.updaters import UPDATERS
from smt_bench.methods.base import Method, OptimizerSettings
from smt_bench.models import build
from smt_bench.models.inventory import inventory
from smt_bench.models.quantized import quantize
from smt_bench.plan.fakes import LIMIT, Fakes, gpu_kernels
from smt_bench.plan.gpu.roofline import Operations

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
ATTENTIONS = ("flash", "eager")
MOST_TOKENS = 1 << 24  # per GPU and step: their ids are real


@dataclass(frozen=True)
class Workload:
    """What a step processes, on one GPU.

    Attributes:
        model: registered name, Hugging Face id or folder.
        batch: examples.
        length: tokens per example; all positions but the last of each have a label.
        precision: of the weights, "fp32" or "bf16".
        checkpointing: recompute activations.
        attention: "flash" (one kernel) or "eager" (batched products, all attention weights saved).
        gpu: kernels as on CUDA; else exactly the CPU's, to be compared with a real step there.
        optimizer_dtype: of the optimizer's state for the model's own weights: "fp32" (as the engine trains: bf16 weights have
            float32 copies) or "bf16" (they have none).
        layers: so many repeated blocks instead of the model's own.
        base: "nf4": a frozen base of 4 bits; "": a whole one.

    Raises:
        ValueError: sizes that the model does not have, or that do not go together.
    """

    model: str
    batch: int
    length: int
    precision: str = "bf16"
    checkpointing: bool = True
    attention: str = "flash"
    gpu: bool = True
    optimizer_dtype: str = "fp32"
    layers: int | None = None
    base: str = ""

    def __post_init__(self) -> None:
        for option, value in (("batch-size", self.batch), ("length", self.length)):
            if value < 1:
                raise ValueError(f"--{option} {value}: choose a positive whole number")
        if self.batch * self.length > MOST_TOKENS:
            raise ValueError(
                f"--batch-size: {self.batch:,} examples of {self.length:,} tokens per GPU: choose at most {MOST_TOKENS:,} tokens"
            )
        for option, text, choices in (
            ("precision", self.precision, tuple(PRECISIONS)),
            ("attention", self.attention, ATTENTIONS),
            ("optimizer-dtype", self.optimizer_dtype, OPTIMIZER_DTYPES),
        ):
            if text not in choices:
                raise ValueError(f"--{option} {text}: choose from {', '.join(choices)}")
        if self.precision == "fp32" and self.optimizer_dtype != "fp32":
            raise ValueError(
                f"--optimizer-dtype {self.optimizer_dtype}: moments have the type of their weights: choose --precision bf16"
            )
        positions = getattr(build.config(self.model, self.layers).get_text_config(), "max_position_embeddings", None)
        if positions is not None and self.length > positions:
            raise ValueError(
                f"--length {self.length}: {self.model} has {positions} positions: choose at most {positions}"
            )

    def tokens(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and shifted labels; their values do not matter."""
        ids_BT = torch.zeros(self.batch, self.length, dtype=torch.int64)
        labels_BT = ids_BT.clone()
        labels_BT[:, -1] = IGNORED
        return ids_BT, labels_BT

    def build(self) -> nn.Module:
        """The architecture, on "meta"."""
        model: nn.Module = build.build(self.model, layers=self.layers)
        if self.attention == "eager":
            model.set_attn_implementation("eager")  # type: ignore[operator]  # a transformers model
        return model


@dataclass
class DryRun:
    """What one step of every stage showed.

    Attributes:
        account: bytes and FLOPs.
        operations: stage -> operations of a step.
        warmup_steps: of the method, within the run's steps.
        saved: stage -> bytes of a checkpoint.
        histories: stage -> all that came and went; of a run that was just made.
    """

    account: Account
    operations: dict[str, Operations]
    warmup_steps: int
    saved: dict[str, int]
    histories: dict[str, History] = field(default_factory=dict, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        counts = {
            stage: [
                [optim, str(dtype).removeprefix("torch."), *sizes, n] for (optim, dtype, *sizes), n in found.items()
            ]
            for stage, found in self.operations.items()
        }
        return {
            "account": self.account.to_dict(), "operations": counts, "warmup_steps": self.warmup_steps, "saved": self.saved
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DryRun:
        """The inverse of `to_dict`."""
        operations = {
            stage: Counter(
                {(optimizer, getattr(torch, dtype), flops, moved): n for optimizer, dtype, flops, moved, n in rows}
            )
            for stage, rows in values["operations"].items()
        }
        return cls(Account.from_dict(values["account"]), operations, values["warmup_steps"], values["saved"])


@dataclass
class Warmup:
    """What a warm-up showed, for runs that share it: as in an account, and the method's state with values."""

    phases: list[Phase]
    flops: dict[str, int]
    trained: int
    operations: Operations
    saved: int
    state: dict[str, Any]


def dry_run(workload: Workload, method: Method, warmups: dict[str, Warmup], settings: str) -> DryRun:
    """One step of every stage on fake tensors.

    Args:
        workload: model, batch and kernels.
        method: fresh.
        warmups: those seen so far, by `settings`.
        settings: what the warm-up depends on.
    """
    known = None
    if method.warmup_steps:
        if settings not in warmups:
            warmups[settings] = _warm_up(workload, copy.deepcopy(method))
        known = warmups[settings]
    fakes, model, run = _prepare(workload, method)
    if known is not None:
        # As a resumed run does, with statistics that have values.
        method.load_state_dict(tree_map(_copied, known.state))
        run.keep(method.state_dict())
        run.account.phases += known.phases
        run.account.flops["warmup"], run.account.trained["warmup"] = known.flops, known.trained
        run.operations["warmup"], run.saved["warmup"] = known.operations, known.saved
        with fakes:
            method.warmup(model)
    with deferred(), _kernels(workload), fakes:
        run.attach()
        run.tuning()
    return DryRun(run.account, run.operations, method.warmup_steps, run.saved, run.histories)


def _warm_up(workload: Workload, method: Method) -> Warmup:
    """The warm-up of a method that is then thrown away."""
    fakes, _, run = _prepare(workload, method)
    with deferred(), _kernels(workload), fakes:
        run.warmup()
    found = run.account
    return Warmup(
        found.phases, found.flops["warmup"], found.trained["warmup"], run.operations["warmup"],
        run.saved["warmup"], with_values(method.state_dict()),
    )  # fmt: skip


def _prepare(workload: Workload, method: Method) -> tuple[Fakes, nn.Module, Accountant]:
    fakes, model = Fakes(), workload.build()
    if workload.precision == "fp32" and inventory(model).experts:
        raise ValueError(
            f"model {workload.model}: torch has no rule for products of experts without storage in fp32: choose bf16"
        )
    fakes.fill(model, PRECISIONS[workload.precision])
    if workload.base:
        with fakes:
            quantize(model)
    updater = UPDATERS[workload.optimizer_dtype]
    run = Accountant(
        model, method, OptimizerSettings(1e-4), *workload.tokens(), workload.checkpointing, updater=updater,
        adapt=_fused if workload.gpu else lambda optimizer: None,
    )  # fmt: skip
    return fakes, model, run


def _kernels(workload: Workload) -> contextlib.AbstractContextManager[Any]:
    return gpu_kernels() if workload.gpu else contextlib.nullcontext()


def _copied(value: Any) -> Any:
    # Expanded tensors stand for very large ones: a copy would be as large.
    return value.clone() if isinstance(value, torch.Tensor) and value.is_contiguous() else value


def with_values(state: dict[str, Any]) -> dict[str, Any]:
    """A method's state with random numbers where it has fake tensors; very large ones vary along their first side only."""
    generator = torch.Generator().manual_seed(0)

    def real(value: Any) -> Any:
        if not isinstance(value, FakeTensor):
            return value
        shape = tuple(value.shape)
        drawn = shape if value.numel() <= LIMIT else (*shape[:1], *[1] * (len(shape) - 1))
        return torch.rand(drawn, generator=generator).to(value.dtype).expand(shape)

    values: dict[str, Any] = tree_map(real, state)
    return values


def _fused(optimizer: torch.optim.Optimizer) -> None:
    # The engine's choice on GPUs; fake tensors say they are on the CPU.
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"] = True

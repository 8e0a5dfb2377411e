"""Which updater a phase gets."""

from __future__ import annotations

import math

from torch import nn

from smt_bench.machine.spread import Spread
from smt_bench.methods.base import Method, OptimizerSettings, ParamGroup
from smt_bench.records.runs import TrainRef
from smt_bench.training.optimizer import FrozenUpdater, TorchUpdater, Updater
from smt_bench.training.zero import ZeroUpdater


def updater_of(model: nn.Module, method: Method, groups: list[ParamGroup], train: TrainRef, spread: Spread) -> Updater:
    """The updater over what a method gave to train.

    Args:
        model: in the state in which `warmup` or `attach` left it.
        method: builds the optimizer.
        groups: what trains; empty in a warm-up that only looks.
        train: the run's rate, optimizer, batches and clipping.
        spread: over processes; with a stage of ZeRO, phases that train all parameters are sharded.
    """
    if not groups:
        return FrozenUpdater(model)
    settings = OptimizerSettings(train.lr, train.betas, train.eps, train.weight_decay)
    trained = sum(p.numel() for group in groups for p in group.params)
    if not spread.zero or trained != sum(p.numel() for p in model.parameters()):
        return TorchUpdater(model, method, groups, settings, train.max_grad_norm)
    passes = math.ceil(train.batch_size / train.micro_batch_size)
    return ZeroUpdater(model, method, groups, settings, train.max_grad_norm, spread, passes)

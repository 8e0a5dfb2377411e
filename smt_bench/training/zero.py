"""Dense phases through DeepSpeed: gradients and optimizer state (ZeRO-2), and weights too (ZeRO-3), sharded over processes.

Takes the place of `TorchUpdater` where all parameters train. States that are saved have the same form, whatever the number
of processes. Torch's AdamW stays the optimizer, also on the CPU with offload: no extension has to be compiled,
and its decay and epsilon mean the same in every phase.

`close` really frees the engine. DeepSpeed 0.19's own `destroy` leaves hooks on modules and attributes on parameters that
keep the optimizer alive, so that the modules get back what they had before, with new parameters.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from smt_bench.machine import parallel
from smt_bench.machine.spread import Spread
from smt_bench.methods.base import Method, OptimizerSettings, ParamGroup
from smt_bench.methods.modules import linears
from smt_bench.training.instrument import UNWATCHED, Instrument
from smt_bench.training.optimizer import Updater, torch_groups

MOMENTS = ("exp_avg", "exp_avg_sq")
TRAINED = (2, 3)  # stages


def check(spread: Spread) -> None:
    """Refuses what can be planned, but not trained through DeepSpeed here.

    Raises:
        ValueError: another stage than 2 or 3, one process, no stage at all to offload from, or DeepSpeed is not installed.
    """
    zero = spread.zero
    if spread.offload and not zero:
        raise ValueError("--offload goes with --zero 2 or --zero 3")
    if not zero:
        return
    if zero not in TRAINED:
        raise ValueError(f"--zero {zero}: choose 0, 2 or 3 (1 can only be planned)")
    if spread.processes < 2:
        raise ValueError(f"--zero {zero} shards over processes: add --processes 2 or more")
    if find_spec("deepspeed") is None:
        raise ValueError(f"--zero {zero} needs DeepSpeed: pip install 'smt-bench[deepspeed]'")


class ZeroUpdater(Updater):
    """An engine with its optimizer, for one dense phase; forward passes go through the engine.

    Args:
        model: its modules are changed in place until `close`.
        method: builds the optimizer.
        groups: all parameters of the model.
        settings: peak rate, betas, eps, default weight decay.
        max_grad_norm: limit of the gradients' norm.
        spread: what is sharded.
        backwards: backward passes per step.
    """

    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        groups: list[ParamGroup],
        settings: OptimizerSettings,
        max_grad_norm: float,
        spread: Spread,
        backwards: int,
    ) -> None:
        deepspeed = _deepspeed()
        super().__init__(model, [p for group in groups for p in group.params])
        self._plain, self._spread = model, spread
        self._before = _snapshot(model)
        self._half = self.params[0].dtype == torch.bfloat16
        self._bytes = sum(p.numel() * p.element_size() for p in self.params)
        optimizer = method.optimizer(torch_groups(groups, [g.params for g in groups], settings), settings)
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        self._groups = optimizer.state_dict()["param_groups"]  # parameters by number, as they were before sharding
        sharding: dict[str, Any] = {"stage": spread.zero, "overlap_comm": False}
        if spread.offload:
            sharding["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        config = {
            "train_micro_batch_size_per_gpu": 1,  # only said; what matters is the number of backward passes per step
            "gradient_accumulation_steps": backwards,
            "gradient_clipping": max_grad_norm,
            "bf16": {"enabled": self._half},
            "zero_optimization": sharding,
            "zero_force_ds_cpu_optimizer": False,
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 1 << 30,
        }
        if (
            self._half
        ):  # the engine turns autocast off around itself: within it, then; gone with all else that it changes
            plain: Any = model
            plain.forward = torch.autocast(self.params[0].device.type, torch.bfloat16)(plain.forward)
        self.model, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        self.optimizer = self.model.optimizer.optimizer  # over this process's shards
        self._steps = 0

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """One backward pass; after the `last` of a step gradients are averaged over the processes and sharded."""
        self.model.backward(loss, scale_wrt_gas=False)
        if not last:
            self.model.step()  # counts the pass

    @contextlib.contextmanager
    def gradients(self, watched: Sequence[str]) -> Iterator[None]:
        """Shows the whole gradients of the watched layers' weights as `weight.grad`; no others."""
        deepspeed = _deepspeed()
        weights = [linear.weight for _, linear in linears(self._plain, watched)]
        found = [deepspeed.utils.safe_get_full_grad(weight) for weight in weights]
        with self._whole(weights):
            for weight, grad in zip(weights, found):
                weight.grad = grad.to(weight.dtype)
            yield
            for weight in weights:
                weight.grad = None

    def step(self, factor: float, instrument: Instrument = UNWATCHED) -> float:
        """Clips, updates and clears, all within the engine."""
        for group, peak in zip(self.optimizer.param_groups, self._peaks):
            group["lr"] = peak * factor
        with instrument.around("optimizer"):
            self.model.step()
        self._steps += 1
        return float(self.model.get_global_grad_norm())

    def weights(self) -> dict[str, torch.Tensor]:
        """The model's whole tensors by name, on the CPU of rank 0; empty elsewhere. All processes have to call it."""
        whole: dict[str, torch.Tensor] = {}
        for name, value in self._plain.state_dict(keep_vars=True).items():
            with self._whole([value]):
                if parallel.rank() == 0:
                    whole[name] = value.detach().cpu().clone()
        return whole

    def state_dict(self) -> dict[str, Any]:
        """As `TorchUpdater.state_dict`: whole tensors on the CPU of rank 0. All processes have to call it."""
        utils = _deepspeed().utils
        state: dict[int, dict[str, torch.Tensor]] = {}
        masters = []
        for number, parameter in enumerate(self.params):
            found = {m: utils.safe_get_full_optimizer_state(parameter, m) for m in MOMENTS if self._steps}
            master = utils.safe_get_full_fp32_param(parameter) if self._half else None
            if parallel.rank() > 0:
                continue
            shape = getattr(parameter, "ds_shape", parameter.shape)
            if found:
                step = torch.tensor(float(self._steps))
                state[number] = {"step": step, **{m: value.cpu().view(shape) for m, value in found.items()}}
            if master is not None:
                masters.append(master.cpu().view(shape))
        return {"optimizer": {"state": state, "param_groups": self._groups}, "masters": masters}

    def load_state_dict(self, state: Any) -> None:
        """Restores `state_dict`, or that of a `TorchUpdater`, of any number of processes."""
        utils, saved = _deepspeed().utils, state["optimizer"]["state"]
        if saved:
            self._steps = int(saved[0]["step"])
            self._make_moments()
        for number, parameter in enumerate(self.params):
            if self._half and state["masters"]:
                utils.safe_set_full_fp32_param(parameter, state["masters"][number].to(self.model.device))
            for moment in MOMENTS if saved else ():
                value = saved[number][moment].to(self.model.device, torch.float32)
                utils.safe_set_full_optimizer_state(parameter, value, moment)

    def state_bytes(self) -> int:
        """Bytes of optimizer state and master copies in this process."""
        states = [t for state in self.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
        if self._half:
            states += [p for group in self.optimizer.param_groups for p in group["params"]]
        return sum(t.numel() * t.element_size() for t in states)

    def parameter_bytes(self) -> int:
        """Bytes of all that trains, unsharded."""
        return self._bytes

    def close(self) -> None:
        """Puts plain modules with the trained weights back and frees the engine."""
        fresh: dict[int, nn.Parameter] = {}
        for parameter in self.params:
            with self._whole([parameter]):
                value = parameter.detach().clone() if self._spread.zero == 3 else parameter.detach()
            fresh[id(parameter)] = nn.Parameter(value)
        self.model.destroy()
        _restore(self._before, fresh)
        self._before.clear()
        for parameter in self.params:
            vars(parameter).clear()  # the optimizer, its buffers, and methods bound to it
            parameter.grad = None
        self.params = []
        self.model = self._plain
        del self.optimizer
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _whole(self, parameters: Sequence[Any]) -> Any:
        if self._spread.zero < 3:
            return contextlib.nullcontext()
        return _deepspeed().zero.GatheredParameters([p for p in parameters if hasattr(p, "ds_id")])

    def _make_moments(self) -> None:
        """Makes the optimizer's state, which it makes itself only in its first step."""
        zero = self.model.optimizer
        shards = zero.fp32_partitioned_groups_flat if self._spread.zero == 3 else zero.single_partition_of_fp32_groups
        for shard in shards:
            moments = {moment: torch.zeros_like(shard) for moment in MOMENTS}
            self.optimizer.state[shard] = {"step": torch.tensor(float(self._steps)), **moments}
        if self._spread.zero < 3:
            zero._lazy_init_hp_params_optimizer_state()


def _deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    return deepspeed


Snapshot = list[tuple[nn.Module, dict[str, Any]]]


def _snapshot(model: nn.Module) -> Snapshot:
    """What every module holds, its dictionaries copied."""
    return [
        (module, {name: value.copy() if isinstance(value, dict) else value for name, value in vars(module).items()})
        for module in model.modules()
    ]


def _restore(snapshot: Snapshot, parameters: dict[int, nn.Parameter]) -> None:
    """Gives every module back what it held, with other parameters in place of the old ones; tied ones stay tied."""
    for module, held in snapshot:
        held["_parameters"] = {
            name: None if old is None else parameters.get(id(old), old) for name, old in held["_parameters"].items()
        }
        vars(module).clear()
        vars(module).update(held)

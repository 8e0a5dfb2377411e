"""Several processes on one run: what they tell each other. With one process every function here does nothing.

Data parallel: every process holds the model and takes its share of each micro-batch; gradients are averaged. Processes are
started by torchrun, accelerate or DeepSpeed; the process group is accelerate's (gloo on CPUs, nccl on GPUs).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

BUCKET = 1 << 27  # bytes reduced at a time: few calls, and a small copy
TIMEOUT = timedelta(hours=2)  # one process writes large checkpoints while the others wait
_gloo: Any = None


class Gone(Exception):
    """Another process of this run has ended, for a reason that only it knows."""


def gone(error: Exception) -> bool:
    """Whether an error only says that another process has ended."""
    # Gloo has no exception of its own; its messages begin with the file they come from.
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def launched() -> int:
    """How many processes a launcher started; 0 where none did, or a single one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    return count if count > 1 else 0


def launched_nodes() -> int:
    """Over how many nodes, each with as many processes as this one."""
    on_each = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE")  # torchrun, accelerate; DeepSpeed
    return launched() // int(on_each) if launched() and on_each else 1


def join() -> None:
    """Meets the other processes, if there are any."""
    if launched() and not dist.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)


def _control() -> Any:
    """The group for small messages: gloo, also beside nccl, so that a process notices at once when another one is gone."""
    global _gloo
    if dist.get_backend() == "gloo":
        return None
    if _gloo is None:
        _gloo = dist.new_group(backend="gloo", timeout=TIMEOUT)
    return _gloo


def leave() -> None:
    """Ends the process group, so that no process waits for another."""
    global _gloo
    if dist.is_initialized():
        dist.destroy_process_group()
        _gloo = None


def size() -> int:
    """Processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 claims, saves and records."""
    return dist.get_rank() if size() > 1 else 0


def share(items: Sequence[Any]) -> Sequence[Any]:
    """This process's part: every `size()`-th."""
    return items[rank() :: size()] if size() > 1 else items


def merge(shares: Sequence[Sequence[Any]]) -> list[Any]:
    """The inverse of `share` over all processes."""
    whole: list[Any] = [None] * sum(map(len, shares))
    for number, part in enumerate(shares):
        whole[number :: len(shares)] = part
    return whole


def total(*values: float) -> tuple[float, ...]:
    """Sums over the processes, in float64."""
    if size() == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, group=_control())
    return tuple(tensor.tolist())


def agreed(*flags: bool) -> tuple[bool, ...]:
    """Each flag: whether any process has it raised."""
    return tuple(count > 0 for count in total(*map(float, flags)))


def broadcast(value: Any) -> Any:
    """Rank 0's value."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_control())
    return box[0]


def gathered(value: Any) -> list[Any]:
    """Every process's value, by rank, in all of them."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value, group=_control())
    return values


def averaged(tensor: torch.Tensor) -> torch.Tensor:
    """Its mean over the processes; all of them have to ask, in the same order. With one process, the tensor itself."""
    if size() == 1:
        return tensor
    mean = tensor.clone()
    dist.all_reduce(mean)
    return mean / size()


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replaces the gradients by their mean over the processes, in place.

    Done once per optimizer step, not by hooks during the backward pass as DDP does: gradients may live outside the module
    tree's own parameters (slices of one tensor), and a method may replace modules between phases.
    """
    if size() == 1:
        return
    bucket: list[torch.Tensor] = []
    grads = [p.grad for p in parameters if p.grad is not None]
    for number, grad in enumerate(grads):
        bucket.append(grad)
        following = grads[number + 1] if number + 1 < len(grads) else None
        full = sum(g.numel() * g.element_size() for g in bucket) >= BUCKET
        if full or following is None or (following.dtype, following.device) != (grad.dtype, grad.device):
            flat = _flatten_dense_tensors(bucket)
            dist.all_reduce(flat)
            flat /= size()
            for own, mean in zip(bucket, _unflatten_dense_tensors(flat, bucket)):
                own.copy_(mean)
            bucket = []

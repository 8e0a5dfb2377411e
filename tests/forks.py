"""Real processes that are cheap to start: forked from one that has imported everything and computed nothing."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

# Of a record: what it is about and what came out, without when and how fast.
OUTCOME = ("key", "run", "status", "step", "capacity", "training", "method", "heldout", "evaluation")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "smt_bench.cli.work",
        "smt_bench.experiments.accuracy.plateau",
        "peft",
        "lm_eval.tasks",
        "lm_eval.models.huggingface",
    ]
)


def start(target: Callable[..., None], *args: Any) -> Any:
    child = CONTEXT.Process(target=target, args=args)
    child.start()
    return child


def finish(target: Callable[..., None], *args: Any) -> int:
    child = start(target, *args)
    child.join(300)
    return child.exitcode


def group(size: int, target: Callable[..., None], *args: Any) -> list[Any]:
    """Processes with the environment that torchrun would give them; `target` gets its rank first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [start(_ranked, rank, size, port, target, args) for rank in range(size)]


def _ranked(rank: int, size: int, port: int, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    from smt_bench.machine import parallel

    parallel.join()
    target(rank, *args)
    parallel.leave()

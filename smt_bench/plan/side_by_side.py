"""Processes beside this one, one per core, for dry runs: these need no file but the package, and one core each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

MOST = 8  # processes, of some 1.5 GB each
NEEDED = (  # seconds to import
    "smt_bench.plan.rows",
    "smt_bench.plan.shorter",
    "smt_bench.plan.claims.lab",
    "transformers.modeling_utils",
    "transformers.models.auto",
)


def cores() -> int:
    """How many processes are worth it here."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, MOST)


def prepare() -> None:
    """Begins to import what they need, beside this process's own imports; nothing where there is one core."""
    if cores() > 1 and (server := _server()) is not None:
        from multiprocessing.forkserver import ensure_running

        server.set_forkserver_preload(list(NEEDED))
        ensure_running()


def pool(most: int, begin: Callable[..., None], *arguments: Any) -> ProcessPoolExecutor:
    """Processes that start when they are first needed.

    Args:
        most: so many at most, and no more than `cores`.
        begin: called in each, with
        *arguments: these.
    """
    return ProcessPoolExecutor(min(most, cores()), _server() or multiprocessing.get_context("spawn"), begin, arguments)


def _server() -> Any:
    """Processes forked from one that has imported everything and computed nothing; None where the system has none."""
    known = "forkserver" in multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver") if known else None

"""Processes beside this one, one per core, for dry runs: these need no file but the package, and one core each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import psutil

MOST = 8  # processes
EACH = 2 << 30  # bytes that one needs, with room
NEEDED = (  # seconds to import
    "smt_bench.plan.rows",
    "smt_bench.plan.shorter",
    "smt_bench.plan.claims.lab",
    "transformers.modeling_utils",
    "transformers.models.auto",
)


def cores() -> int:
    """How many processes are worth it here: as many as there are cores, and memory is free for."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(there, MOST, int(psutil.virtual_memory().available) // EACH))


@contextmanager
def prepared() -> Iterator[None]:
    """Begins to import what they need, beside this process's own imports; nothing where one process is enough."""
    server = _server() if cores() > 1 else None
    if server is None:
        yield
        return
    from multiprocessing import forkserver

    server.set_forkserver_preload(list(NEEDED))
    forkserver.ensure_running()
    try:
        yield
    finally:  # whoever reads our output waits for it as long as it lives
        running: Any = forkserver._forkserver
        with suppress(OSError, AttributeError, TypeError):
            os.kill(running._forkserver_pid, signal.SIGKILL)  # it may be importing still
            running._stop()  # so that the next one starts anew


@contextmanager
def pool(most: int, begin: Callable[..., None], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """Processes that start when they are first needed, and end with this one, however it ends.

    Args:
        most: so many at most, and no more than `cores`.
        begin: called in each, with
        *arguments: these.
    """
    context = _server() or multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(max(1, min(most, cores())), context, partial(_begin, begin), arguments)
    try:
        yield workers
    except BaseException:
        for process in multiprocessing.active_children():  # not one waits for the dry run that it is at
            process.terminate()
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def _begin(begin: Callable[..., None], *arguments: Any) -> None:
    warnings.simplefilter("ignore")  # libraries' warnings are for developers; a dry run has none of its own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches every process; the one that waits for them says so
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _server() -> Any:
    """Processes forked from one that has imported everything and computed nothing; None where the system has none."""
    known = "forkserver" in multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver") if known else None

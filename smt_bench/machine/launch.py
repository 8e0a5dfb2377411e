"""How the processes of one run are started. Imports nothing heavy: tasks of a cluster begin with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version

from packaging.version import Version

PATIENCE = 120  # seconds for processes to save their state once asked to leave


def torchrun(processes: int, node: Sequence[str] = ("--standalone",)) -> list[str]:
    """The command that starts so many processes on this node; what they run follows.

    Args:
        processes: on this node.
        node: which of the run's nodes this is; by itself, torchrun finds a free port.
    """
    command = [sys.executable, "-m", "torch.distributed.run", *node, f"--nproc-per-node={processes}"]
    if Version(version("torch")).release >= (2, 13):  # older ones give 30 s
        command.append(f"--shutdown-timeout={PATIENCE}")
    return command

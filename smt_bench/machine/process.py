"""Which process is meant, also where clocks move and where several machines or containers number their processes alike."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil

Owner = dict[str, Any]


@cache
def place() -> str:
    """This machine since its start, and this process namespace: where process numbers mean the same.

    Containers on one machine share the start but not the namespace; the names of machines are no proof of anything.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        inside = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        inside = f"{uuid.getnode():x}"
    return f"{socket.gethostname()} {inside}"


def started(pid: int) -> str | None:
    """When a process started, by a count that no clock moves; None where there is no such process, or only its remains."""
    if not Path("/proc/self/stat").exists():
        try:
            return repr(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    try:
        # The second field is the program's name in brackets and may hold anything, brackets too.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]  # fields 3 (state) and 22 (start, in ticks since the machine's)


def myself() -> Owner:
    """This process, as written into a file that says who made it; `token` is new at every call."""
    pid = os.getpid()
    return {
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "place": place(),
        "pid": pid,
        "start": started(pid),
    }


def alive(owner: Mapping[str, Any]) -> bool | None:
    """Whether a process is still there; None where that cannot be seen from here."""
    if owner.get("place") != place() or type(owner.get("pid")) is not int or "start" not in owner:
        return None
    return owner["start"] is not None and started(owner["pid"]) == owner["start"]


def named(owner: Mapping[str, Any]) -> str:
    """A process in words."""
    if "pid" not in owner:
        return "an unknown process"
    since = f" since {owner['since']}" if owner.get("since") else ""
    return f"process {owner['pid']} on {owner.get('host')}{since}"

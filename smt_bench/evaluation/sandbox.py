"""Runs a program that a model wrote: in a process of its own, with limits, and only where that was allowed.

The process has so many seconds of wall clock and of processor time, so much memory and file size, no core file, an empty
temporary folder as working folder and home, and nothing of this process's environment. Where the system lets it (Linux with user
namespaces) it is cut off from the network and from other processes, and all that it started ends with it. It still runs as this
user and can read what this user can read: a sandbox against accidents, not against an enemy.

A program passes where its last line is reached: one that ends the process before, with whatever exit code, does not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SECONDS = 10.0  # of wall clock; HumanEval's own limit is 3 on an idle machine
MEMORY = 2**30  # bytes of address space
FILE = 2**20  # bytes of the largest file
PASSES, TIMEOUT = "passes", "timeout"

# What the process does first; everything else is the program's. Isolated from the network where the system allows.
_CHILD = """
import ctypes, os, resource, sys
nonce, fd, seconds, memory, size = sys.argv[1], *map(int, sys.argv[2:6])
for what, most in (("CPU", seconds), ("AS", memory), ("FSIZE", size), ("CORE", 0), ("NOFILE", 64)):
    resource.setrlimit(getattr(resource, "RLIMIT_" + what), (most, most))
NEWUSER, NEWIPC, NEWPID, NEWNET = 0x10000000, 0x08000000, 0x20000000, 0x40000000
try:
    libc = ctypes.CDLL(None)
    alone = libc.unshare(NEWUSER | NEWIPC | NEWPID | NEWNET) == 0 or libc.unshare(NEWPID | NEWNET) == 0
except (AttributeError, OSError):
    alone = False
# The first process of a namespace hears no signal of its own, and ends all others with it: the program is the second.
for _ in range(2 if alone else 0):
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
with open(sys.argv[6], encoding="utf-8") as file:
    text = file.read()
os.unlink(sys.argv[6])
del sys.argv[1:]
names = {"__name__": "__main__"}
try:
    exec(compile(text, "program", "exec"), names)
except BaseException as error:
    os.write(fd, type(error).__name__.encode()[:60])
    os._exit(1)
os.write(fd, nonce.encode())
os._exit(0)
"""


def check() -> None:
    """Refuses to judge programs where none can be run with limits: all of them would count as wrong.

    Raises:
        ValueError: what became of one that does nothing.
    """
    if (ended := outcome("pass")) != PASSES:
        raise ValueError(
            f"programs cannot be run with limits on this machine (one that does nothing: {ended}): leave --allow-code out, or "
            "judge on Linux"
        )


def outcome(program: str, seconds: float = SECONDS) -> str:
    """What became of a program: `PASSES`, `TIMEOUT`, the name of the exception that ended it, or "killed" or "exit".

    Args:
        program: Python, with its tests at the end.
        seconds: of wall clock that it may take.
    """
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="smt-bench-code-") as around:
        place, file = Path(around) / "empty", Path(around) / "program.py"
        place.mkdir()
        file.write_text(program, encoding="utf-8", errors="replace")
        said, tells = os.pipe()
        limits = [str(int(limit)) for limit in (seconds + 2, MEMORY, FILE)]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHILD, nonce, str(tells), *limits, str(file)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place, pass_fds=(tells,),
            env={"HOME": str(place), "TMPDIR": str(place), "PATH": os.defpath}, start_new_session=True,
        )  # fmt: skip
        os.close(tells)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            late = process.poll() is None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it started
            process.wait()
        os.set_blocking(said, False)
        with os.fdopen(said, "rb") as pipe:
            word = (pipe.read() or b"").decode(errors="replace")
    if late:
        return TIMEOUT
    if word == nonce:
        return PASSES
    return word if word.isidentifier() else "killed" if process.returncode > 1 or process.returncode < 0 else "exit"

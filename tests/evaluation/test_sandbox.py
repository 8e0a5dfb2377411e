"""Programs that a model wrote: what they can do, what they cannot, and that only reaching the end passes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from smt_bench.evaluation import sandbox
from smt_bench.evaluation.sandbox import PASSES, TIMEOUT, outcome

PROGRAMS = {
    "def f():\n    return 3\nassert f() == 3": PASSES,
    "import math, typing, collections\nassert math.isqrt(9) == 3": PASSES,
    "assert 1 == 2": "AssertionError",
    "def f(:": "SyntaxError",
    "import os\nos._exit(0)": "exit",  # before its tests
    "raise SystemExit(0)": "SystemExit",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)": "killed",
    "x = bytearray(2**31)": "MemoryError",
    f"f = open('x', 'wb', 0)\nf.write(bytes({sandbox.FILE}))\nf.write(b'x')": "OSError",
    "import os\nassert os.listdir('.') == [] and os.environ['HOME'] == os.getcwd()": PASSES,
    "import os\nassert 'SECRET_OF_OURS' not in os.environ": PASSES,
    "import sys\nassert len(sys.argv) == 1": PASSES,
    "input()": "EOFError",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_becomes_of_a_program(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    assert outcome(program, 60) == PROGRAMS[program]


@pytest.mark.parametrize("program", ["while True: pass", "import time\ntime.sleep(60)"])
def test_time_is_limited(program: str) -> None:
    before = time.monotonic()
    assert outcome(program, 1) == TIMEOUT
    assert time.monotonic() - before < 20


def test_no_process_outlives_its_program(tmp_path: Path) -> None:
    child = (
        f"import os, time\nif os.fork() == 0:\n    time.sleep(3)\n    open({str(tmp_path / 'late')!r}, 'w').close()\n"
    )
    assert outcome(child, 60) == PASSES
    time.sleep(4)
    assert not (tmp_path / "late").exists()


def test_where_no_program_can_be_run_none_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.check()
    monkeypatch.setattr(sandbox, "_CHILD", "raise SystemExit(3)")
    with pytest.raises(
        ValueError, match=r"cannot be run with limits on this machine \(one that does nothing: killed\)"
    ):
        sandbox.check()


def isolated() -> bool:
    """Whether this system lets a process leave the network."""
    child = os.fork()
    if child == 0:
        import ctypes

        os._exit(ctypes.CDLL(None).unshare(0x10000000 | 0x40000000) and 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork") or not isolated(), reason="no namespaces here")
def test_there_is_no_network() -> None:
    connect = "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\n"
    connect += "socket.create_connection(s.getsockname(), 2)"
    exec(connect, {})  # here there is one
    assert outcome(connect, 60) == "OSError"

"""Signals become an orderly end: the state is saved at the next step, then the process leaves.

SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGUSR1 ask once; a Ctrl-C after that leaves at once. Outside `held` blocks the request takes
effect where it arrives: loading and evaluation have nothing to save that is not saved already.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
SAME = 1.0  # second
EXIT_CODE = 130  # of a process that was asked to stop and can be continued by the same command


class Stopped(KeyboardInterrupt):
    """Asked to stop; all that is needed to go on is on disk. Like Ctrl-C, no `except Exception` holds it up."""


class Stop:
    """Whether this process was asked to stop.

    Args:
        in_imports: what to say before leaving at once where a request comes while a module is imported, since native code
            does not survive an exception there; None: `Stopped` even so.
    """

    def __init__(self, in_imports: str | None = None) -> None:
        self.asked = False
        self._in_imports = in_imports
        self._asked_at = 0.0
        self._holding = 0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Takes the signals over for a while, but a SIGHUP that `nohup` lets pass; only the main thread of a process can."""
        passes = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        wanted = [number for number in SIGNALS if number != signal.SIGHUP or not passes]
        before = {number: signal.signal(number, self._handle) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a request waits for `check`."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1

    def request(self) -> None:
        """Asks to stop, from any thread: takes effect at the next `check`, or `poll` outside `held`."""
        self.asked, self._asked_at = True, time.monotonic()

    def poll(self) -> None:
        """Ends here if asked, unless inside `held`.

        Raises:
            Stopped: a signal came, or another thread asked.
        """
        if not self._holding:
            self.check()

    def check(self) -> None:
        """Ends here if asked.

        Raises:
            Stopped: a signal came.
        """
        if self.asked:
            raise Stopped

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        # Within a second it is the same Ctrl-C, passed on by a launcher that got it too.
        if self.asked and number == signal.SIGINT and time.monotonic() - self._asked_at > SAME:
            os._exit(EXIT_CODE)  # no clean-up that could hang; what it leaves behind is cleaned up by the next start
        if not self.asked:
            self.asked, self._asked_at = True, time.monotonic()
        if not self._holding:
            if self._in_imports is not None and _importing(frame):
                with contextlib.suppress(OSError):
                    os.write(2, f"{self._in_imports}\n".encode())
                os._exit(EXIT_CODE)
            raise Stopped


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal waits for the end: native code that calls back does not survive an exception everywhere.

    A second Ctrl-C leaves at once. Changes nothing outside the main thread, and nothing about signals that nobody handles.
    """
    came: list[int] = []

    def keep(number: int, _frame: FrameType | None) -> None:
        if came and number == signal.SIGINT:
            os._exit(EXIT_CODE)
        came.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: handler for n in SIGNALS if callable(handler := signal.getsignal(n))}
    for number in before:
        signal.signal(number, keep)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _importing(frame: FrameType | None) -> bool:
    """Whether a frame lies within an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave_terminal() -> None:
    """Output to a terminal that is gone goes nowhere, or the next line written would be an error before the state is saved."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)

"""How the control thread of a child process hears signals, and what else it is to look at.

Python runs signal handlers in the main thread only, between two bytecodes. A signal that comes between the last
bytecode before a system call and that call does not interrupt it: the handler runs when the call returns, which may be
never. But the C part of every handler writes the number of its signal to the process's wake-up descriptor at once
(``signal.set_wakeup_fd``), and that is this pipe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading

_MOST = 65536


class SignalPipe:
    """A pipe that is the wake-up descriptor, unless somebody else has taken it away."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._of_loop = -1
        self._using = threading.Lock()  # so that nothing is written to a descriptor that is closed already

    def wake_up(self) -> None:
        """Wake the control thread; callable from any thread and from a signal handler."""
        with contextlib.suppress(BlockingIOError):  # it will wake up anyway
            os.write(self._writer, b"\0")

    # -- in the control thread -----------------------------------------------------------------------

    def fileno(self) -> int:
        """Return what to poll."""
        return self._reader

    def read(self) -> bytes:
        """Return the numbers of the signals that have come, and a 0 for each `wake_up`; tells the loop of them too."""
        numbers = os.read(self._reader, _MOST)
        with self._using, contextlib.suppress(OSError):  # full: it will wake up anyway
            if self._of_loop >= 0 and any(numbers):
                os.write(self._of_loop, numbers)
        return numbers

    # -- in the main thread --------------------------------------------------------------------------

    def listen(self) -> None:
        """Become the wake-up descriptor, whosever it is now."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def keep_listening(self) -> None:
        """Become the wake-up descriptor where there is none: who has had it may have let go of it."""
        before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if before not in (-1, self._writer):
            _restore(before)

    def join_loop(self) -> None:
        """Listen, together with the running loop, which has had the wake-up descriptor since it runs (uvloop)."""
        before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        with self._using:
            self._of_loop = before if before != self._writer else -1

    def leave_loop(self) -> None:
        """Give back to the loop what `join_loop` has taken from it, where it has."""
        with self._using:
            before, self._of_loop = self._of_loop, -1
        if before >= 0 and (now := signal.set_wakeup_fd(before, warn_on_full_buffer=False)) != self._writer:
            _restore(now)


def _restore(descriptor: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed by its owner meanwhile
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)

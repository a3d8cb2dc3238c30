"""What wakes asyncio's loop for a signal: a pipe as the process's wake-up descriptor (``signal.set_wakeup_fd``).

Without it a signal that comes just before the loop goes to sleep, or that the kernel gives to another thread, would
wait for the next event. The bytes say nothing to us; they are passed on to whoever had the wake-up descriptor before.
uvloop has one of its own whenever it runs in the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

_wake_ups: dict[asyncio.AbstractEventLoop, WakeUp] = {}  # newest last


class WakeUp:
    """Wakes one loop for signals, as long as somebody needs it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._users = 0
        self._before = -1
        self._reader = self._writer = -1

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> WakeUp:
        """Return the one of this loop, with one user more, who calls `let_go` in the end."""
        wake_up = _wake_ups.get(loop) or cls(loop)
        if not wake_up._users and isinstance(loop, asyncio.SelectorEventLoop):
            wake_up._open()
        _wake_ups[loop] = wake_up
        wake_up._users += 1
        return wake_up

    def ensure(self) -> None:
        """Take the wake-up descriptor back where somebody has changed it, and remember theirs."""
        if self._writer >= 0:
            other = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            if other != self._writer:
                self._before = other

    def let_go(self) -> None:
        """Have one user less; after the last one the process has the wake-up descriptor of before."""
        self._users -= 1
        if not self._users:
            below = list(_wake_ups.values())
            above = below[below.index(self) + 1 :]
            del _wake_ups[self._loop]
            if self._writer >= 0:
                self._give_back(above)

    def _open(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add_reader(self._reader, self._pass_on)
        self.ensure()

    def _give_back(self, above: list[WakeUp]) -> None:
        for each in above:
            if each._before == self._writer:
                each._before = self._before
        now = signal.set_wakeup_fd(-1)
        if now == self._writer:
            now = self._before
        with contextlib.suppress(OSError, ValueError):  # closed by its owner meanwhile
            signal.set_wakeup_fd(now, warn_on_full_buffer=False)
        if not self._loop.is_closed():
            self._loop.remove_reader(self._reader)
        os.close(self._reader)
        os.close(self._writer)
        self._reader = self._writer = -1

    def _pass_on(self) -> None:
        with contextlib.suppress(BlockingIOError):
            signums = os.read(self._reader, 65536)
            if self._before >= 0:
                with contextlib.suppress(OSError):  # full: its owner is awake; or closed
                    os.write(self._before, signums)


def leave_wake_ups() -> None:
    """Forget all of this in a forked child: the pipes are its parent's, and so are the polls that watch them."""
    for each in _wake_ups.values():
        if each._writer >= 0:
            signal.set_wakeup_fd(-1)
            os.close(each._reader)
            os.close(each._writer)
            each._reader = each._writer = -1

"""Watching and signalling a process without racing against the reuse of its number.

A pidfd (pidfd_open(2)) names one process for ever and becomes readable when it ends; the loop can watch it
without a thread. Where the kernel or a seccomp filter refuses it, one daemon thread per process waits in
waitid(2) instead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

from .._sys import procfs

if TYPE_CHECKING:  # the zygote uses this file and must not pay for asyncio
    import asyncio
    from collections.abc import Callable


def open_pidfd(pid: int) -> int | None:
    """Return a close-on-exec pidfd of a process, or ``None`` where pidfds are refused (seccomp, old kernels).

    Raises ProcessLookupError where the process is gone already.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        return None


def kill_group(leader: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal to the process group that ``leader`` leads; to it alone where it leads none yet.

    The caller must be its parent and must not have reaped it, so that the number is still its own.
    A group that is gone already is no error.
    """
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(leader) == leader:
            os.killpg(leader, signum)
        else:
            os.kill(leader, signum)


def kill_session(leader: int) -> None:
    """Send SIGKILL to whatever is left of a dead session leader's session.

    A pid stays taken while a session bears it, so the members found are the right ones.
    """
    for pid in procfs.session_members(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class ExitWatch:
    """Calls ``on_exit`` once in the loop when a child of this process has ended; does not reap it.

    Close it when the exit no longer matters; a waiting thread is then left to end with the process.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pid: int, on_exit: Callable[[], None]) -> None:
        self._loop = loop
        self._on_exit: Callable[[], None] | None = on_exit
        self._pidfd: int | None = None
        try:
            self._pidfd = open_pidfd(pid)
        except ProcessLookupError:  # gone and reaped already
            loop.call_soon(self._fire)
            return
        if self._pidfd is not None:
            loop.add_reader(self._pidfd, self._fire)
        else:
            threading.Thread(target=self._wait, args=(pid,), name=f"aioipc-wait-{pid}", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._on_exit = None
        if self._pidfd is not None:
            pidfd, self._pidfd = self._pidfd, None
            self._loop.remove_reader(pidfd)
            os.close(pidfd)

    def _fire(self) -> None:
        on_exit = self._on_exit
        self.close()
        if on_exit is not None:
            on_exit()

    def _wait(self, pid: int) -> None:
        with contextlib.suppress(ChildProcessError):  # somebody else has reaped it: it has ended all the same
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._fire)

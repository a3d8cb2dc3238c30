"""The duty of PID 1, and of a subreaper (``prctl(2)``): to reap orphans that end, which nobody else can.

Whose a zombie is, the kernel does not say, and to reap a child of somebody in this program (asyncio, `subprocess`)
would take its exit status away. So the session decides: a child that this process has started is in our session or
leads one of its own. An orphan from another session, as every daemon that has forked twice and whatever a dead shell
has left, is no such child. What is left out stays a zombie: that costs a number in the table of processes, no status.

Our own services never come here: their zygote is a subreaper itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

from .._sys import libc, procfs

EVERY = 1.0
"""Seconds between two looks; there is no SIGCHLD to be had, which is the program's."""

_log = logging.getLogger("aioipc.supervisor")


class ForeignReaper:
    """Looks again and again from `start` to `close`, in a process that orphans are given to; else it does nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, where that is this process's duty. Started already: do nothing."""
        if self._timer is None and (os.getpid() == 1 or libc.is_subreaper()):
            self._look()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(EVERY, self._look)
        if reaped := reap_foreign():
            _log.info("reaped orphans of other sessions: pid %s", ", ".join(map(str, reaped)))


def reap_foreign() -> list[int]:
    """Reap the zombies among our children that cannot be anybody's here; returns their pids."""
    if not _has_zombies():
        return []
    ours, session = os.getpid(), os.getsid(0)
    reaped: list[int] = []
    for pid in procfs.children(ours):
        info = procfs.process_info(pid)
        if info is not None and info.state == "Z" and info.parent == ours and info.session not in (session, pid):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
                reaped.append(pid)
    return reaped


def _has_zombies() -> bool:
    """Whether a look into /proc can find anything; nothing is reaped by this."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False

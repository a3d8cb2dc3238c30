"""Who tells that an object may be ready: the interface, and the source for file descriptors.

A source reports; it never takes anything from the object, so a report that nobody answers loses nothing.
The wait queue decides when to listen and when not to.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Literal, Protocol


class Readiness(Protocol):
    """Reports to a wait queue that its object may be ready.

    Every method is called in the thread of the event loop, and so is the ``report``.
    """

    def arm(self, report: Callable[[], bool]) -> None:
        """Call ``report`` when the object may be ready, once or again and again; armed already: do nothing.

        A report for nothing is allowed, a missed one is not: where the object was ready already, or gets
        ready after this call, at least one report follows. ``report`` returns True where it has woken a
        task that was asleep.
        """

    def disarm(self) -> None:
        """Stop reporting; not armed: do nothing."""

    def close(self) -> None:
        """Stop reporting for good and free what the source holds (never the object itself)."""


class DescriptorReadiness:
    """Reports that a file descriptor may be read from, or written to, by ``loop.add_reader``/``add_writer``.

    Both loops poll level-triggered (``epoll(7)``): they report as long as the descriptor is ready. It stays
    registered until `disarm`, so a wait costs no ``epoll_ctl(2)``.

    *The echo.* asyncio's selector loops poll once more between a report and the step of the task which that
    report has woken, find the data still there, and report a second time, after the task has taken the data
    and maybe waits for more: one wake-up for nothing per message. So the report after one that woke a task is
    dropped on these loops. Where it was no echo, the next poll repeats it.

    *Errors on uvloop.* Its poll handle dies with the first EPOLLERR: it calls back once and never again, and
    only removing the descriptor and adding it anew helps. The wait queue does that whenever a report was
    followed by an attempt that found nothing.

    It does not own ``fd``. Close it after `close`, never before: both loops go on believing that a closed
    number is registered, and the next descriptor with that number would never be reported.
    """

    __slots__ = ("_echo", "_fd", "_loop", "_pid", "_writes")

    def __init__(self, fd: int, direction: Literal["read", "write"]) -> None:
        self._fd = fd
        self._writes = direction == "write"
        self._loop: asyncio.AbstractEventLoop | None = None  # set while registered
        self._echo = False
        self._pid = 0

    def arm(self, report: Callable[[], bool]) -> None:
        """Register the descriptor with the running loop.

        Raises what the loop raises: `PermissionError` where the kernel cannot poll such a file (``epoll_ctl``
        EPERM, a regular file), `OSError` at a limit (ENOSPC, ``fs.epoll.max_user_watches``).
        """
        if self._loop is not None:
            return
        loop = asyncio.get_running_loop()
        add = loop.add_writer if self._writes else loop.add_reader
        if isinstance(loop, asyncio.SelectorEventLoop):
            add(self._fd, self._report_once, report)
        else:
            add(self._fd, report)
        self._loop = loop
        self._pid = os.getpid()

    def disarm(self) -> None:
        """Remove the descriptor from the loop; a forked child leaves it to its parent, whose epoll(7) set it shares."""
        loop, self._loop = self._loop, None
        if loop is not None and self._pid == os.getpid():
            (loop.remove_writer if self._writes else loop.remove_reader)(self._fd)

    def close(self) -> None:
        """Remove the descriptor from the loop; the caller may close it then."""
        self.disarm()

    def _report_once(self, report: Callable[[], bool]) -> None:
        self._echo = not self._echo and report()

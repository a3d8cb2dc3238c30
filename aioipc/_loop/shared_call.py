"""One call that blocks, such as ``fsync(2)``, made in a waiting thread for any number of tasks at once.

What one call does serves everybody who asked before it began. So those who come while one is under way share the next.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from . import wait_threads
from .wait_queue import WaitQueue
from .waits import Wait


class SharedCall:
    """Makes ``call`` in a thread, one at a time; `OSError` from it comes out where it was awaited."""

    __slots__ = ("_call", "_queue")

    def __init__(self, call: Callable[[], object], name: str) -> None:
        self._call = _Call(call)
        self._queue = WaitQueue(_Calling(self._call), name)

    @property
    def calls(self) -> int:
        """How often it was made."""
        return self._call.count

    async def run(self) -> None:
        """Have the call made once from now on, and wait for its end.

        Raises what it raised, `ClosedResourceError` after `close`. Cancelled: it is made all the same if it has begun.
        """
        self._call.asked += 1
        await self._queue.take(self._call.check, self._call.asked)

    def close(self, release: Callable[[], object]) -> None:
        """Wait no longer, then call ``release``; a call that cannot be interrupted may still go on."""
        self._queue.close(release)


class _Call:
    """What a thread does, as a probe of `aioipc._loop.waits`."""

    __slots__ = ("_call", "_done", "_error", "_failed", "asked", "count")

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.asked = self._done = self._failed = self.count = 0
        self._error = OSError()

    def ask(self, block: bool) -> None:
        """Make the call."""
        asked = self.asked
        try:
            self._call()
        except OSError as error:
            self._failed, self._error = asked, error
        self.count += 1
        self._done = asked

    def keep(self, taken: int) -> None:
        """There is nothing to take."""

    def check(self, asked: int) -> None:
        """Raise `BlockingIOError` before the call was made for this one who has asked, and its error after that."""
        if self._done < asked:
            raise BlockingIOError
        if asked <= self._failed:
            number = self._error.errno or 0
            raise OSError(number, os.strerror(number), self._error.filename)


class _Calling:
    """Reports that the call has been made, once for each time it is armed."""

    __slots__ = ("_call", "_closed", "_report", "_wait")

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._wait: Wait | None = None
        self._report: Callable[[], bool] | None = None
        self._closed = False
        wait_threads.threads.join()

    def arm(self, report: Callable[[], bool]) -> None:
        """Have a thread make the call. Raises `RuntimeError` where the system has no thread to give."""
        self._report = report
        if self._wait is None:
            wait = Wait(self._call, asyncio.get_running_loop(), self._end)
            wait_threads.threads.start(wait)
            self._wait = wait

    def disarm(self) -> None:
        """Do not report until armed again; the call goes on."""
        self._report = None

    def close(self) -> None:
        """Have the thread leave the call, if that can be interrupted."""
        if not self._closed:
            self._closed, self._report = True, None
            if self._wait is not None:
                self._wait.cancel()
            wait_threads.threads.part()

    def _end(self, wait: Wait) -> None:
        self._wait = None
        report, self._report = self._report, None
        if report is not None:
            report()

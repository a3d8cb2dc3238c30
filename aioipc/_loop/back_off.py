"""The source of readiness for what the kernel never reports: look again, after 1 ms at first and 20 ms at last."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

FIRST, LONGEST = 0.001, 0.02  # seconds between two looks


class BackOffReadiness:
    """Reports each time a pause is over; the pauses double while the reports were for nothing.

    A wait queue disarms its source when a report has led to nothing, and only then before it arms it again, so that
    is how this source learns of it. After a report that led to something the pauses are short again.
    """

    __slots__ = ("_loop", "_pause", "_report", "_thread", "_timer", "_wasted")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._timer: asyncio.Handle | None = None  # set while armed
        self._report: Callable[[], bool]
        self._pause = FIRST
        self._wasted = FIRST  # the next pause, if the last report was for nothing

    def arm(self, report: Callable[[], bool]) -> None:
        """Report once, after a pause."""
        if self._timer is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()
            self._report = report
            self._timer = self._loop.call_later(self._pause, self._fire)

    def disarm(self) -> None:
        """Stop the timer; the next pause is longer."""
        self._stop()
        self._pause = self._wasted

    def close(self) -> None:
        """Stop the timer."""
        self._stop()

    def nudge(self) -> None:
        """Somebody in this process has made the object ready: report now, if armed. May be called in any thread."""
        if self._loop is None or self._timer is None or self._loop.is_closed():
            return
        if threading.get_ident() == self._thread:
            self._now()
        else:
            self._loop.call_soon_threadsafe(self._now)

    def _now(self) -> None:
        if self._timer is not None:
            self._fire()

    def _fire(self) -> None:
        self._stop()
        self._wasted, self._pause = min(2 * self._pause, LONGEST), FIRST
        if not self._report():
            self._wasted = FIRST

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

"""Readiness of what nothing in the kernel reports: ask again, after a pause that grows.

Nothing waits for room in a full System V queue without sending, so a sender asks again and again. This is polling,
and used only where there is no other way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

FIRST, LONGEST = 0.001, 0.02  # seconds


class BackOffReadiness:
    """Reports 1 ms after it is armed, and each time it was for nothing after twice as long, up to 20 ms.

    The wait queue disarms a source whose report was followed by an attempt that found nothing, and then arms it
    again; after an attempt that succeeded it only arms it. That tells the two apart.
    """

    __slots__ = ("_for_nothing", "_pause", "_report", "_timer")

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._report: Callable[[], bool] | None = None
        self._for_nothing = False
        self._pause = FIRST

    def arm(self, report: Callable[[], bool]) -> None:
        """Report after the pause."""
        if self._timer is None:
            self._pause = min(2 * self._pause, LONGEST) if self._for_nothing else FIRST
            self._for_nothing = False
            self._report = report
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._fire)

    def disarm(self) -> None:
        """Do not report."""
        self._for_nothing = True
        self._stop()

    def close(self) -> None:
        """Do not report."""
        self._stop()

    def nudge(self) -> None:
        """Report now, if armed: somebody in this process knows that it is worth it. In the loop's thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._fire()

    def _fire(self) -> None:
        report, self._timer, self._report = self._report, None, None
        if report is not None:
            report()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._report = None

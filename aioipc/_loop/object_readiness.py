"""The source of readiness for objects without a descriptor (see `aioipc._loop.readiness` and `waits`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import wait_threads
from .waits import Probe, Wait

KEPT = 4  # waits for other probes that may go on


class ObjectReadiness:
    """Reports that an object may be ready, once for each time it is armed, as soon as a probe says so.

    ``probe`` is what to wait for. It may be changed at any time and counts from the next `arm` on: the first of
    the tasks that wait may want more or less than the one before it.

    Disarming does not stop the wait, which takes nothing from the object; that would cost more than the report it
    spares. A wait for a probe of before goes on too, until there are too many.
    """

    __slots__ = ("_closed", "_report", "_waits", "probe")

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self._waits: dict[Probe, Wait] = {}  # oldest first
        self._report: Callable[[], bool] | None = None
        self._closed = False
        wait_threads.threads.join()

    def arm(self, report: Callable[[], bool]) -> None:
        """Wait for the probe. Raises `RuntimeError` where the system has no thread to give."""
        self._report = report
        if self.probe not in self._waits:
            if len(self._waits) > KEPT:
                self._stop(next(iter(self._waits)))
            wait = Wait(self.probe, asyncio.get_running_loop(), self._end)
            wait_threads.threads.start(wait)
            self._waits[self.probe] = wait

    def disarm(self) -> None:
        """Do not report until armed again."""
        self._report = None

    def close(self) -> None:
        """Have the threads leave the object; idempotent."""
        if not self._closed:
            self._closed, self._report = True, None
            for probe in list(self._waits):
                self._stop(probe)
            wait_threads.threads.part()

    def nudge(self) -> None:
        """Report now, if armed: something has changed in this process. In the loop's thread."""
        if self._report is not None:
            self._report()

    def _stop(self, probe: Probe) -> None:
        self._waits.pop(probe).cancel()

    def _end(self, wait: Wait) -> None:
        wait.settle()
        if self._waits.get(wait.probe) is wait:
            del self._waits[wait.probe]
            report, self._report = self._report, None
            if report is not None:
                report()
